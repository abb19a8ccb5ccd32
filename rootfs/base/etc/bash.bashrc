# Interactive shells. What a script needs belongs in /etc/profile.
case $- in
*i*) ;;
*) return ;;
esac
shopt -s checkwinsize histappend
if [ "$(id -u)" = 0 ]; then
	PS1='\[\e[01;31m\]\h\[\e[01;34m\] \w #\[\e[00m\] '
else
	PS1='\[\e[01;32m\]\u@\h\[\e[01;34m\] \w $\[\e[00m\] '
fi
alias ll='ls -l'
alias la='ls -la'
