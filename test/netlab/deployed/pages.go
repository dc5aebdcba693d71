package deployed

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Block is a piece of a page that a reader types, or writes to a file.
type Block struct {
	Page string // its file's name
	Line int    // of the fence
	On   string // "admin", or a host, to run it there; "": it is not run
	Why  string // it is not run
	File string // that it is the text of; "": it is commands
	Text string
}

// String says where it stands.
func (b Block) String() string { return fmt.Sprintf("%s line %d", b.Page, b.Line) }

// mark is the comment above a fence that says what becomes of the block.
var mark = regexp.MustCompile(`^<!-- (run on|not run|file): (.+) -->$`)

// Blocks are those of a page that are commands (sh) or a marked file, in their order. One of commands without a mark is an error: a page
// says what nobody has tried only where it says so.
func Blocks(path string) ([]Block, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []Block
	var open *Block
	var above []string // the comment's parts that stood in the line before
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch {
		case open != nil && line == "```":
			out = append(out, *open)
			open = nil
		case open != nil:
			open.Text += line + "\n"
		case strings.HasPrefix(line, "```"):
			b := Block{Page: filepath.Base(path), Line: n}
			if line == "```sh" && above == nil {
				return nil, fmt.Errorf("%s: nothing says where it is run, or why it is not", b)
			}
			b.marked(above)
			open = &b
			if above == nil {
				open.Why = "no command"
			}
		}
		if m := mark.FindStringSubmatch(line); m != nil {
			above = m[1:]
		} else {
			above = nil
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s: it has no end", *open)
	}
	return commands(out), lines.Err()
}

func (b *Block) marked(above []string) {
	if above == nil {
		return
	}
	switch above[0] {
	case "run on":
		b.On = above[1]
	case "not run":
		b.Why = above[1]
	case "file":
		b.File = above[1]
	}
}

// commands leaves out what is neither: output, settings of other programs.
func commands(all []Block) []Block {
	var out []Block
	for _, b := range all {
		if b.Why != "no command" {
			out = append(out, b)
		}
	}
	return out
}

// Pages are those whose commands are run, in this order, as a reader would.
var Pages = []string{"GUIDE.md", "DEPLOY.md", "MATTERMOST.md", "TROUBLESHOOTING.md"}

// Here turns the pages' addresses into the lab's.
func Here(text string) string { return strings.ReplaceAll(text, "10.0.0.", "10.99.0.") }
