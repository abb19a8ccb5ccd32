package kv

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger writes etcd's log as one plain line per event. With journal set,
// the line begins with the priority in the way that a journal's stream takes
// it ("<4>"), and has no time, which the journal adds. A message after which
// upstream would end the process panics in its place, so that the caller can
// say why and choose the exit code.
func newLogger(w io.Writer, level zapcore.Level, journal bool) *zap.Logger {
	cfg := zapcore.EncoderConfig{
		MessageKey: "msg", LevelKey: "level", NameKey: "logger",
		EncodeLevel:      zapcore.LowercaseLevelEncoder,
		EncodeDuration:   zapcore.StringDurationEncoder,
		EncodeTime:       zapcore.RFC3339TimeEncoder,
		ConsoleSeparator: " ",
		LineEnding:       zapcore.DefaultLineEnding,
	}
	if journal {
		cfg.EncodeLevel = priority
	} else {
		cfg.TimeKey = "ts"
	}
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(cfg), zapcore.Lock(zapcore.AddSync(w)), level)
	return zap.New(core, zap.WithFatalHook(zapcore.WriteThenPanic))
}

// priority writes a level as syslog's number in angle brackets.
func priority(l zapcore.Level, enc zapcore.PrimitiveArrayEncoder) {
	number := map[zapcore.Level]string{
		zapcore.DebugLevel: "<7>", zapcore.InfoLevel: "<6>", zapcore.WarnLevel: "<4>", zapcore.ErrorLevel: "<3>",
	}[l]
	if number == "" {
		number = "<2>"
	}
	enc.AppendString(number)
}
