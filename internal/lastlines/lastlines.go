// Package lastlines keeps the end of what is written, in memory: a member's own last words, for whoever asks the member for them. Its log goes
// to systemd's journal, which the member may not read.
package lastlines

import (
	"bytes"
	"sync"
)

// Buffer keeps the last bytes written to it, whole lines only. It may be used by many at once. The zero value keeps nothing; make it with New.
type Buffer struct {
	most int

	mu   sync.Mutex
	text []byte
}

// New makes a buffer that keeps so many bytes at most.
func New(most int) *Buffer { return &Buffer{most: most} }

// Write takes one or more lines. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	if len(b.text) > 2*b.most { // seldom, so that a line costs no copy of all
		b.text = append(make([]byte, 0, 2*b.most), b.end()...)
	}
	return len(p), nil
}

// Text returns what is kept.
func (b *Buffer) Text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.end())
}

// end is as many whole lines as are kept.
func (b *Buffer) end() []byte {
	if len(b.text) <= b.most {
		return b.text
	}
	end := b.text[len(b.text)-b.most:]
	if b.text[len(b.text)-b.most-1] == '\n' {
		return end
	}
	_, rest, _ := bytes.Cut(end, []byte("\n"))
	return rest
}
