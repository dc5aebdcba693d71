package deployed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "PAGE.md")
	page := "# T\n\n<!-- run on: pg1 -->\n```sh\na\nb\n```\n<!-- not run: it hurts -->\n```sh\nc\n```\n```json\n{}\n```\n<!-- file: cluster.yml -->\n```yaml\nd: 1\n```\n"
	for name, c := range map[string]struct {
		text, err string
	}{
		"whole":      {page, ""},
		"unmarked":   {page + "\n```sh\nd\n```\n", "line 20: nothing says where it is run"},
		"not closed": {page + "<!-- run on: admin -->\n```sh\nd\n", "line 20: it has no end"},
		"mark away":  {"<!-- run on: pg1 -->\n\n```sh\na\n```\n", "line 3: nothing says where"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			all, err := Blocks(path)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			want := []Block{
				{Page: "PAGE.md", Line: 4, On: "pg1", Text: "a\nb\n"}, {Page: "PAGE.md", Line: 9, Why: "it hurts", Text: "c\n"},
				{Page: "PAGE.md", Line: 16, File: "cluster.yml", Text: "d: 1\n"},
			}
			if err != nil || len(all) != len(want) {
				t.Fatalf("%v: %+v", err, all)
			}
			for i := range want {
				if all[i] != want[i] {
					t.Errorf("got %+v, want %+v", all[i], want[i])
				}
			}
		})
	}
}

// TestPagesAreMarked: what the whole machines' test runs can be found in each page.
func TestPagesAreMarked(t *testing.T) {
	for _, name := range Pages {
		all, err := Blocks(filepath.Join("..", "..", "..", "docs", name))
		if err != nil || len(all) == 0 {
			t.Errorf("%s: %d blocks, %v", name, len(all), err)
		}
		for _, b := range all {
			if b.On != "" && b.On != "admin" && !strings.HasPrefix(b.On, "pg") {
				t.Errorf("%s is run on %q, which is no host", b, b.On)
			}
		}
	}
}
