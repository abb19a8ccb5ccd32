package journalctl

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// options are the arguments of journalctl.
type options struct {
	units, userUnits, identifiers []string
	facilities                    []string
	follow, reverse, end, kernel  bool
	all, quiet, utc, noHostname   bool
	noTail, listBoots, diskUsage  bool
	rotate, flush, sync           bool
	showCursor, fieldNames        bool
	help, version, noFull         bool
	lines, boot, priority, output string
	since, until, grep            string
	caseSensitive                 string
	cursor, afterCursor, field    string
	outputFields                  string
	directory, root               string
	vacuumSize, vacuumTime        string
	vacuumFiles                   string
	matches                       []string
	flags                         *pflag.FlagSet
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := pflag.NewFlagSet("journalctl", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.SortFlags = false
	o.flags = f
	f.StringArrayVarP(&o.units, "unit", "u", nil, "Show logs from the specified unit (name or glob)")
	f.StringArrayVar(&o.userUnits, "user-unit", nil, "Show logs from the specified unit of a user's service manager")
	f.StringArrayVarP(&o.identifiers, "identifier", "t", nil, "Show entries with the specified syslog identifier")
	f.StringVarP(&o.priority, "priority", "p", "", "Show entries with the specified priority or range (err, 3, warning..err)")
	f.StringSliceVar(&o.facilities, "facility", nil, "Show entries with the specified facilities (see --facility=help)")
	f.StringVarP(&o.boot, "boot", "b", "", "Show the current boot, or the boot with this ID or offset")
	f.Lookup("boot").NoOptDefVal = "0"
	f.BoolVarP(&o.kernel, "dmesg", "k", false, "Show kernel messages of the current boot")
	f.StringVarP(&o.since, "since", "S", "", "Show entries not older than the specified date")
	f.StringVarP(&o.until, "until", "U", "", "Show entries not newer than the specified date")
	f.StringVarP(&o.grep, "grep", "g", "", "Show entries with MESSAGE matching the pattern")
	f.StringVar(&o.caseSensitive, "case-sensitive", "", "Force case sensitive or insensitive matching")
	f.Lookup("case-sensitive").NoOptDefVal = "yes"
	f.StringVarP(&o.cursor, "cursor", "c", "", "Show entries starting at the specified cursor")
	f.StringVar(&o.afterCursor, "after-cursor", "", "Show entries after the specified cursor")
	f.BoolVar(&o.showCursor, "show-cursor", false, "Print the cursor after all the entries")
	f.StringVarP(&o.lines, "lines", "n", "", "Number of journal entries to show (10), or all")
	f.Lookup("lines").NoOptDefVal = "10"
	f.BoolVarP(&o.follow, "follow", "f", false, "Follow the journal")
	f.BoolVar(&o.noTail, "no-tail", false, "Show all lines, even in follow mode")
	f.BoolVarP(&o.reverse, "reverse", "r", false, "Show the newest entries first")
	f.BoolVarP(&o.end, "pager-end", "e", false, "Show the last 1000 entries")
	f.StringVarP(&o.output, "output", "o", "short", "Change output mode (short, short-iso, verbose, json, cat, export, ...)")
	f.StringVar(&o.outputFields, "output-fields", "", "Select fields to print in verbose, export and json modes")
	f.BoolVar(&o.utc, "utc", false, "Express time in Coordinated Universal Time")
	f.BoolVarP(&o.all, "all", "a", false, "Show all fields, including long and unprintable")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Do not show info messages")
	f.BoolVar(&o.noHostname, "no-hostname", false, "Suppress output of hostname field")
	f.BoolVar(&o.listBoots, "list-boots", false, "Show terse information about recorded boots")
	f.BoolVarP(&o.fieldNames, "fields", "N", false, "List all field names currently used")
	f.StringVarP(&o.field, "field", "F", "", "List all values that a specified field takes")
	f.BoolVar(&o.diskUsage, "disk-usage", false, "Show total disk usage of all journal files")
	f.StringVar(&o.vacuumSize, "vacuum-size", "", "Reduce disk usage below specified size")
	f.StringVar(&o.vacuumTime, "vacuum-time", "", "Remove journal files older than specified time")
	f.StringVar(&o.vacuumFiles, "vacuum-files", "", "Leave only the specified number of journal files")
	f.BoolVar(&o.rotate, "rotate", false, "Request immediate rotation of the journal files")
	f.BoolVar(&o.flush, "flush", false, "Flush journal data from /run to /var")
	f.BoolVar(&o.sync, "sync", false, "Synchronize unwritten journal messages to disk")
	f.StringVarP(&o.directory, "directory", "D", "", "Show journal files from directory")
	f.StringVar(&o.root, "root", "", "Operate on files below a root directory")
	f.BoolVarP(&o.help, "help", "h", false, "Show this help text")
	f.BoolVar(&o.version, "version", false, "Show the version")
	for _, name := range []string{"no-pager", "system"} {
		f.Bool(name, false, "Accepted; has no effect here")
	}
	f.BoolP("merge", "m", false, "Accepted; there is one journal")
	f.BoolVar(&o.noFull, "no-full", false, "Cut long lines at the width of the terminal")
	f.BoolP("full", "l", false, "Do not cut lines (the default)")
	f.BoolP("catalog", "x", false, "Accepted; there is no message catalog")
	if err := f.Parse(joinOptional(args)); err != nil {
		return nil, flagError(err)
	}
	o.matches = f.Args()
	if o.flags.Changed("full") {
		o.noFull = false
	}
	if o.follow && o.reverse {
		return nil, errors.New("Please specify either --reverse= or --follow=, not both.")
	}
	return o, nil
}

// flagError says it in the words of getopt, which scripts' users know.
func flagError(err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if short := unknown.GetSpecifiedShortnames(); short != "" {
			return fmt.Errorf("journalctl: invalid option -- '%s'", unknown.GetSpecifiedName())
		}
		return fmt.Errorf("journalctl: unrecognized option '--%s'", unknown.GetSpecifiedName())
	}
	var missing *pflag.ValueRequiredError
	if errors.As(err, &missing) {
		if short := missing.GetSpecifiedShortnames(); short != "" {
			return fmt.Errorf("journalctl: option requires an argument -- '%s'", missing.GetSpecifiedName())
		}
		return fmt.Errorf("journalctl: option '--%s' requires an argument", missing.GetSpecifiedName())
	}
	return fmt.Errorf("journalctl: %w; see journalctl --help", err)
}

var (
	linesValue = regexp.MustCompile(`^(\+?[0-9]+|all)$`)
	bootValue  = regexp.MustCompile(`^([-+]?[0-9]{1,6}|[0-9a-fA-F]{32}([-+][0-9]+)?|all)$`)
	cluster    = regexp.MustCompile(`^-[frekqalx]*[nb]$`)
	attached   = regexp.MustCompile(`^(-[frekqalx]*([nb]))([-+0-9a-fA-F].*)$`)
)

// joinOptional makes "-n=5" of "-n 5" and "-n5", and "-b=-1" of "-b -1": their
// values are optional, and like systemd we take the next word when it can only be
// the value.
func joinOptional(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if m := attached.FindStringSubmatch(arg); m != nil {
			if m[2] == "n" && linesValue.MatchString(m[3]) || m[2] == "b" && bootValue.MatchString(m[3]) {
				arg = m[1] + "=" + m[3]
			}
		} else if i+1 < len(args) {
			next := args[i+1]
			lines := arg == "--lines" || cluster.MatchString(arg) && arg[len(arg)-1] == 'n'
			boot := arg == "--boot" || cluster.MatchString(arg) && arg[len(arg)-1] == 'b'
			if lines && linesValue.MatchString(next) || boot && bootValue.MatchString(next) {
				arg, i = arg+"="+next, i+1
			}
		}
		out = append(out, arg)
	}
	return out
}

// count returns how many of the last entries are wanted, -1 for all.
func (o *options) count() (int, error) {
	switch {
	case o.lines == "all" || o.noTail:
		return -1, nil
	case o.lines == "" && o.end:
		return 1000, nil
	case o.lines == "" && o.follow:
		return 10, nil
	case o.lines == "":
		return -1, nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(o.lines, "+"))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("Failed to parse lines '%s'", o.lines)
	}
	return n, nil
}
