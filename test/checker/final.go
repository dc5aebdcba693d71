package checker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"standfast/playground/load"
)

// Final is what one server holds once everybody has stopped.
type Final struct {
	Name string // of the way
	load.Executor
	Rows map[int64]map[int64]int32 // attempt by row, by run
}

// markKey is the register that no client works on.
const markKey = 0

// finals writes a mark and reads everything, first where writing leads to, then on each server named.
func (r *Run) finals(ctx context.Context, servers []Way) ([]Final, error) {
	primary, err := r.mark(ctx)
	if err != nil {
		return nil, fmt.Errorf("write the mark that everything has to have reached: %w", err)
	}
	var out []Final
	primary.Name = "the primary through " + primary.Name
	for _, s := range append([]Way{primary}, servers...) {
		f, err := r.final(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("read back from %s: %w", s.Name, err)
		}
		out = append(out, f)
	}
	return out, nil
}

// mark commits the mark through whichever way takes it first, in their order, and returns that way.
func (r *Run) mark(ctx context.Context) (Way, error) {
	for {
		var errs []error
		for _, w := range r.cfg.Write {
			err := r.exec(ctx, w, upsert("0", "r.v"), r.id, markKey)
			if err == nil {
				return w, nil
			}
			errs = append(errs, fmt.Errorf("through %s: %w", w.Name, err))
		}
		if !rest(ctx, 100*time.Millisecond) {
			return Way{}, errors.Join(errs...)
		}
	}
}

func (r *Run) exec(ctx context.Context, w Way, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	cfg := r.load(w.DSN)
	conn, err := cfg.Connect(ctx, cfg.DSN)
	if err != nil {
		return err
	}
	defer load.CloseNow(conn)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// final waits until the server shows the mark, and reads all rows from it.
func (r *Run) final(ctx context.Context, s Way) (Final, error) {
	f := Final{Name: s.Name, Rows: map[int64]map[int64]int32{}}
	for {
		marked, err := r.marked(ctx, s, &f.Executor)
		if marked {
			break
		}
		if err == nil {
			err = errors.New("it does not show the mark: it has not replayed, or is not of this cluster")
		}
		if !rest(ctx, 100*time.Millisecond) {
			return f, err
		}
	}
	for _, w := range r.Writers {
		rows, err := w.ReadBack(ctx, s.DSN)
		if err != nil {
			return f, err
		}
		f.Rows[w.ID()] = rows
	}
	return f, nil
}

func (r *Run) marked(ctx context.Context, s Way, by *load.Executor) (is bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	cfg := r.load(s.DSN)
	conn, err := cfg.Connect(ctx, cfg.DSN)
	if err != nil {
		return false, err
	}
	defer load.CloseNow(conn)
	const look = `SELECT EXISTS (SELECT FROM standfast_register WHERE run = $1 AND key = $2), ` + load.Who
	err = conn.QueryRow(ctx, look, r.id, markKey).Scan(append([]any{&is}, by.Fields()...)...)
	return is, err
}
