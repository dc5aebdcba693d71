//go:build e2e

package system

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// reader asks for the newest row again and again, with a new session after each error, as the reading side of an application.
type reader struct {
	name  string
	dsn   string
	count atomic.Int64
	err   atomic.Value // the newest error's text
	end   context.CancelFunc
	done  sync.WaitGroup
}

func startReader(name, dsn string) *reader {
	ctx, cancel := context.WithCancel(all)
	r := &reader{name: name, dsn: dsn, end: cancel}
	r.done.Go(func() {
		for ctx.Err() == nil {
			if err := r.session(ctx); err != nil && ctx.Err() == nil {
				r.err.Store(err.Error())
			}
			pause(ctx)
		}
	})
	return r
}

// session reads until something fails.
func (r *reader) session(ctx context.Context) error {
	conn, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		gone, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond) // the server may be frozen
		defer cancel()
		_ = conn.Close(gone)
	}()
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		var rows int64
		err := conn.QueryRow(one, "SELECT count(*) FROM pg_class WHERE relname = 'standfast_load'").Scan(&rows)
		cancel()
		if err != nil {
			return err
		}
		if rows != 1 {
			return fmt.Errorf("the table that is written to can't be seen on the standby")
		}
		r.count.Add(1)
		pause(ctx)
	}
	return nil
}

func (r *reader) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return pgx.Connect(ctx, r.dsn)
}

func (r *reader) served() int64  { return r.count.Load() }
func (r *reader) lastError() any { return r.err.Load() }

func (r *reader) stop() {
	r.end()
	r.done.Wait()
}
