//go:build e2e

package system

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"standfast/playground/load"
)

// subscriber reads a publication of one table of numbers through a logical slot, as a program that captures changes does:
// it confirms what it has, comes again when it is cut off, and keeps every number it was sent.
type subscriber struct {
	dsn, slot, publication string
	stop                   context.CancelFunc
	ended                  sync.WaitGroup

	mu        sync.Mutex
	rows      map[int64]int // how often each came
	confirmed uint64        // LSN up to which everything has been kept
	last      error
}

func subscribe(dsn, slot, publication string) *subscriber {
	ctx, cancel := context.WithCancel(all)
	s := &subscriber{dsn: dsn, slot: slot, publication: publication, stop: cancel, rows: map[int64]int{}}
	s.ended.Go(func() {
		for ; ctx.Err() == nil; pause(ctx) {
			err := s.session(ctx)
			s.mu.Lock()
			s.last = err
			s.mu.Unlock()
		}
	})
	return s
}

func (s *subscriber) close() {
	s.stop()
	s.ended.Wait()
}

// lacks returns those of the rows that have not come, and why the last session ended.
func (s *subscriber) lacks(rows []int64) (missing []int64, last error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range rows {
		if s.rows[n] == 0 {
			missing = append(missing, n)
		}
	}
	return missing, s.last
}

// session streams until it is cut off ("Streaming Replication Protocol", START_REPLICATION SLOT ... LOGICAL).
func (s *subscriber) session(ctx context.Context) error {
	cfg, err := pgx.ParseConfig(s.dsn)
	if err != nil {
		return err
	}
	cfg.RuntimeParams["replication"] = "database"
	dial, cancel := context.WithTimeout(ctx, 10*time.Second)
	conn, err := pgconn.ConnectConfig(dial, &cfg.Config)
	cancel()
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(end) // it is cut off, or we are done
	}()
	from := s.position(conn)
	conn.Frontend().SendQuery(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %X/%X (proto_version '1', publication_names '%s')",
		s.slot, from>>32, uint32(from), s.publication)})
	if err := conn.Frontend().Flush(); err != nil {
		return err
	}
	var pending []int64 // rows of the transaction that is being sent
	for {
		silence, cancel := context.WithTimeout(ctx, 5*time.Second) // wal_sender_timeout is 2 s
		msg, err := conn.ReceiveMessage(silence)
		cancel()
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(m)
		case *pgproto3.CopyDone:
			return errors.New("the server has ended the stream")
		case *pgproto3.CopyData:
			if len(m.Data) > 25 && m.Data[0] == 'w' {
				pending = s.take(m.Data[25:], pending)
			}
			if err := s.confirm(conn); err != nil {
				return err
			}
		}
	}
}

// position is where to begin: from PostgreSQL 17 on behind what was confirmed. Before, a subscriber may have been ahead of
// the standbys, and the new primary's first changes lie below what it confirmed to the old one; asking for 0/0 it gets
// everything from where the slot is.
func (s *subscriber) position(conn *pgconn.PgConn) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if major, _, _ := strings.Cut(conn.ParameterStatus("server_version"), "."); len(major) == 2 && major < "17" {
		s.confirmed = 0
	}
	return s.confirmed
}

// take reads one message of pgoutput ("Logical Replication Message Formats"): Insert adds a row, Commit keeps what was
// added.
func (s *subscriber) take(msg []byte, pending []int64) []int64 {
	switch msg[0] {
	case 'I': // relation, 'N', number of columns, then for the only one its kind, length and text
		n := binary.BigEndian.Uint32(msg[9:])
		id, err := strconv.ParseInt(string(msg[13:13+n]), 10, 64)
		if err != nil {
			return pending
		}
		return append(pending, id)
	case 'C': // flags, LSN of the commit, LSN of its end
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, id := range pending {
			s.rows[id]++
		}
		s.confirmed = max(s.confirmed, binary.BigEndian.Uint64(msg[10:]))
		return nil
	}
	return pending
}

// confirm sends a standby status update.
func (s *subscriber) confirm(conn *pgconn.PgConn) error {
	s.mu.Lock()
	at := s.confirmed
	s.mu.Unlock()
	data := []byte{'r'}
	for range 3 {
		data = binary.BigEndian.AppendUint64(data, at)
	}
	data = append(binary.BigEndian.AppendUint64(data, 0), 0)
	conn.Frontend().Send(&pgproto3.CopyData{Data: data})
	return conn.Frontend().Flush()
}

// feed inserts rising numbers one by one, through any failover, and knows which were acknowledged.
type feed struct {
	stop  context.CancelFunc
	ended sync.WaitGroup

	mu    sync.Mutex
	acked []int64
}

func startFeed(dsn, insert string) *feed {
	ctx, cancel := context.WithCancel(all)
	f := &feed{stop: cancel}
	f.ended.Go(func() {
		next := int64(0)
		for ; ctx.Err() == nil; pause(ctx) {
			f.session(ctx, dsn, insert, &next)
		}
	})
	return f
}

// session inserts until something fails; the number that failed is not tried again, for it may be there.
func (f *feed) session(ctx context.Context, dsn, insert string, next *int64) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return // the next one may succeed; that one does in the end is for the test to see
	}
	defer load.CloseNow(conn)
	for ; ctx.Err() == nil; pause(ctx) {
		*next++
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := conn.Exec(attempt, insert, *next)
		cancel()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.acked = append(f.acked, *next)
		f.mu.Unlock()
	}
}

// rows are the numbers acknowledged so far.
func (f *feed) rows() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]int64(nil), f.acked...)
}

func (f *feed) close() {
	f.stop()
	f.ended.Wait()
}
