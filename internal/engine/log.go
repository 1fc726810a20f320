package engine

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// serverLog carries what the embedded server says into our log. Its fatal errors are kept rather than ending the process.
type serverLog struct {
	logger *slog.Logger
	// broken is called when the server says that it cannot write; it must not block. Who waits for the answer to that write
	// would otherwise wait for all of writeLimit.
	broken func()

	mu  sync.Mutex
	why string // guarded by mu: the first fatal error
}

const serverSays = "engine server says"

// Noticef carries a notice: of interest only to who looks for it.
func (l *serverLog) Noticef(format string, v ...any) { l.say(l.logger.Debug, format, v) }

// Warnf carries a warning.
func (l *serverLog) Warnf(format string, v ...any) { l.say(l.logger.Warn, format, v) }

// Errorf carries an error.
func (l *serverLog) Errorf(format string, v ...any) {
	l.say(l.logger.Error, format, v)
	if strings.Contains(format, "critical write error") || strings.Contains(format, "Critical write error") || strings.Contains(format, "failed to store") {
		l.broken()
	}
}

// Debugf is never called: debugging is off.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef is never called: tracing is off.
func (l *serverLog) Tracef(string, ...any) {}

// Fatalf carries an error after which the server does not work.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.say(l.logger.Error, format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == "" {
		l.why = fmt.Sprintf(format, v...)
	}
}

// fatal gives the first fatal error, empty when there was none.
func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

func (l *serverLog) say(log func(string, ...any), format string, v []any) {
	log(serverSays, "text", fmt.Sprintf(format, v...))
}
