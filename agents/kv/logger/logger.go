// Package logger writes the log of etcd.service for the journal; package zap has
// no encoder of plain lines with syslog's priorities in angle brackets.
package logger

import (
	"errors"
	"fmt"
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// New writes etcd's log as one plain line per event. With journal set,
// the line begins with the priority in the way that a journal's stream takes
// it ("<4>"), and has no time, which the journal adds. A message after which
// upstream would end the process, with a stack trace or without, goes to end as
// an error; end does not return.
func New(w io.Writer, level zapcore.Level, journal bool, end func(error)) *zap.Logger {
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
	return zap.New(core, zap.WithFatalHook(ending(end)), zap.WithPanicHook(ending(end)))
}

// ending is called by the logger after a message that ends the process.
type ending func(error)

// OnWrite implements zapcore.CheckWriteHook.
func (end ending) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			end(fmt.Errorf("%s: %w", entry.Message, err))
		}
	}
	end(errors.New(entry.Message))
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
