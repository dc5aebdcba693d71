package postgres

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// logBound is the size, in bytes, at which the server's log is begun anew; one old one is kept.
const logBound = 32 << 20

// BoundLog begins the server's log anew once it has grown to 32 MB; what it held until then is beside it in LogFile.1. To be
// called every few seconds. The server writes to it through a descriptor that nobody else can replace, so the file is copied
// and emptied; a line that is written in the instant between the two is lost. PostgreSQL's own logging_collector would keep
// every line, but also every file: it bounds their sizes and not their number.
func (s *Server) BoundLog() error { return s.config().boundLog(logBound) }

func (c Config) boundLog(bound int64) error {
	log, err := os.OpenFile(c.LogFile, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bound PostgreSQL's log: %w", err)
	}
	defer log.Close()
	st, err := log.Stat()
	if err != nil || st.Size() < bound {
		return err
	}
	// Emptied even where there is no room for a copy: a log must not be what keeps a disk full.
	err = errors.Join(c.copyLog(log), log.Truncate(0))
	if err != nil {
		return fmt.Errorf("bound PostgreSQL's log: %w", err)
	}
	return nil
}

func (c Config) copyLog(log *os.File) error {
	old := c.LogFile + ".1"
	f, err := os.OpenFile(old, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, log)
	return errors.Join(err, f.Close(), c.own(old))
}
