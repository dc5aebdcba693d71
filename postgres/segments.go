package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"standfast/cluster"
	"standfast/pgconf"
)

// walPage is XLOG_BLCKSZ, the page size of WAL in every distribution's build.
const walPage = 8 << 10

// dropShortSegments removes the first segment of a timeline when it holds nothing of that timeline yet.
//
// A standby that follows a new timeline receives it from the beginning of the segment that the fork lies in. Killed
// before it has reached the fork, it is left with a file of the new timeline that ends below the fork, beside one of the
// old timeline that holds everything acknowledged. At the next start PostgreSQL prefers the higher timeline's file
// (XLogFileReadAnyTLI) and its WAL ends too early: the member would report less than it has acknowledged.
//
// The file goes only if that is proven: no byte at or past the fork is WAL, and the parent's file holds everything that
// is in it.
func (s *Server) dropShortSegments(ctx context.Context) error {
	size, err := s.segmentSize(ctx)
	if err != nil {
		return err
	}
	return s.config().dropShort(size)
}

func (c Config) dropShort(size uint64) error {
	entries, err := os.ReadDir(c.walDir())
	if err != nil {
		return fmt.Errorf("look at the WAL: %w", err)
	}
	for _, e := range entries {
		seg, ok := pgconf.ParseSegment(e.Name(), size)
		if !ok || seg.Timeline == 1 {
			continue
		}
		h, fork, err := c.history(seg.Timeline)
		if err != nil {
			return err
		}
		if fork == 0 || fork%cluster.LSN(size) == 0 || seg != pgconf.SegmentAt(seg.Timeline, fork, size) {
			continue
		}
		parent := pgconf.Segment{Timeline: h[len(h)-1].Timeline, Number: seg.Number}
		short, err := c.holdsNothingNew(seg, parent, fork, size)
		if err != nil {
			return fmt.Errorf("look at WAL segment %s: %w", e.Name(), err)
		}
		if short {
			if err := removeFile(filepath.Join(c.walDir(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// holdsNothingNew compares a timeline's first segment with its parent's.
func (c Config) holdsNothingNew(seg, parent pgconf.Segment, fork cluster.LSN, size uint64) (bool, error) {
	child, err := os.ReadFile(filepath.Join(c.walDir(), seg.Name(size)))
	if err != nil || uint64(len(child)) != size {
		return false, err
	}
	old, err := os.ReadFile(filepath.Join(c.walDir(), parent.Name(size)))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // the child may hold the only copy
	}
	if err != nil || uint64(len(old)) != size {
		return false, err
	}
	if walBeyond(child, seg.Start(size), fork) {
		return false, nil
	}
	for at := uint64(0); at < uint64(fork-seg.Start(size)); at += walPage {
		if !isWALPage(child[at:], seg.Start(size)+cluster.LSN(at)) {
			break
		}
		end := min(at+walPage, uint64(fork-seg.Start(size)))
		if !prefixOf(child[at:end], old[at:end]) {
			return false, nil
		}
	}
	return true, nil
}

// walBeyond reports whether the segment may hold WAL at or past lsn: anything in the rest of lsn's own page, or a later
// page with the header of its place. What else lies there is left over from the file's earlier use.
func walBeyond(segment []byte, start, lsn cluster.LSN) bool {
	off := uint64(lsn - start)
	page := off / walPage * walPage
	if isWALPage(segment[page:], start+cluster.LSN(page)) && !allZero(segment[off:min(page+walPage, uint64(len(segment)))]) {
		return true
	}
	for at := page + walPage; at < uint64(len(segment)); at += walPage {
		if isWALPage(segment[at:], start+cluster.LSN(at)) {
			return true
		}
	}
	return false
}

// isWALPage reports whether a page begins with the header of the page at lsn (XLogPageHeaderData in xlog_internal.h:
// magic, info, timeline, address, remaining length, in the machine's byte order).
func isWALPage(page []byte, at cluster.LSN) bool {
	return binary.NativeEndian.Uint16(page) != 0 && cluster.LSN(binary.NativeEndian.Uint64(page[8:])) == at
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// prefixOf reports whether a received page is its original or a beginning of it followed by zeros.
func prefixOf(received, original []byte) bool {
	received = bytes.TrimRight(received, "\x00")
	return len(received) <= len(original) && bytes.Equal(received, original[:len(received)])
}

// cutWAL takes away what a member has beyond the point where the primary's history left its timeline, when pg_rewind
// found nothing to do because none of it had reached the data files. Segments wholly beyond go; the one that the fork
// lies in is kept up to the fork.
func (c Config) cutWAL(tl cluster.Timeline, fork cluster.LSN, size uint64) error {
	entries, err := os.ReadDir(c.walDir())
	if err != nil {
		return err
	}
	at := pgconf.SegmentAt(tl, fork, size)
	for _, e := range entries {
		seg, ok := pgconf.ParseSegment(e.Name(), size)
		if !ok || seg.Timeline != tl || seg.Number < at.Number {
			continue
		}
		path := filepath.Join(c.walDir(), e.Name())
		if seg.Number > at.Number {
			err = os.Remove(path)
		} else {
			err = zeroFrom(path, int64(fork-seg.Start(size)), int64(size))
		}
		if err != nil {
			return fmt.Errorf("cut WAL segment %s: %w", e.Name(), err)
		}
	}
	return syncDir(c.walDir())
}

// zeroFrom overwrites a file from an offset on.
func zeroFrom(path string, from, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, size-from), from)
	return errors.Join(err, f.Sync(), f.Close())
}

// keepDiscarded copies the WAL of a timeline from the fork on into a directory of its own, so that what was discarded
// can be looked into (pg_waldump). At most keepSegments are kept, the first ones.
func (c Config) keepDiscarded(dir string, tl cluster.Timeline, fork cluster.LSN, size uint64) (n int, err error) {
	entries, err := os.ReadDir(c.walDir()) // sorted by name, hence by position
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		seg, ok := pgconf.ParseSegment(e.Name(), size)
		if !ok || seg.Timeline != tl || seg.Number < pgconf.SegmentAt(tl, fork, size).Number || n == keepSegments {
			continue
		}
		page := make([]byte, walPage)
		if used, err := firstPage(filepath.Join(c.walDir(), e.Name()), page, seg.Start(size)); err != nil || !used {
			if err != nil {
				return n, err
			}
			continue // a file made ready for later
		}
		if err := copyFile(filepath.Join(dir, e.Name()), filepath.Join(c.walDir(), e.Name())); err != nil {
			return n, err
		}
		n++
	}
	return n, c.ownAll(dir)
}

func firstPage(path string, page []byte, at cluster.LSN) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err := io.ReadFull(f, page); err != nil {
		return false, err
	}
	return isWALPage(page, at), nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

func (c Config) ownAll(dir string) error {
	if c.RunAs == nil {
		return nil
	}
	return filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error { return errors.Join(err, c.own(path)) })
}
