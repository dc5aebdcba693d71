package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decode reads the document over what dst holds already. Every unknown key is reported, not only the first.
func decode(name string, text []byte, dst any) error {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return located(name, err)
	}
	if len(file.Docs) > 1 {
		return fmt.Errorf("%s: holds %d documents separated by ---; leave one", name, len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil // an empty file: all defaults
	}
	body := file.Docs[0].Body
	if _, ok := body.(ast.MapNode); !ok {
		return at(name, body.GetToken(), "want keys and values, such as \"name: pg1\"")
	}
	var unknown []error
	unknownKeys(name, "", body, reflect.TypeOf(dst), &unknown)
	if len(unknown) > 0 {
		return errors.Join(unknown...)
	}
	if err := yaml.NodeToValue(body, dst); err != nil {
		return located(name, err)
	}
	return nil
}

// unknownKeys compares the document with the Go type it is to fill. A type that reads itself, or a map, may hold any key.
func unknownKeys(name, path string, n ast.Node, t reflect.Type, out *[]error) {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[yaml.BytesUnmarshaler]()) {
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		unknownKeys(name, path, n, t.Elem(), out)
	case reflect.Slice:
		if seq, ok := n.(*ast.SequenceNode); ok {
			for i, v := range seq.Values {
				unknownKeys(name, fmt.Sprintf("%s[%d]", path, i+1), v, t.Elem(), out)
			}
		}
	case reflect.Struct:
		m, ok := n.(ast.MapNode)
		if !ok {
			return // the decoder says what it wanted here
		}
		for it := m.MapRange(); it.Next(); {
			key, at := it.Key().String(), it.Key().GetToken()
			field, ok := fieldOf(t, key)
			if !ok {
				*out = append(*out, unknownKey(name, path, key, at, t))
				continue
			}
			unknownKeys(name, join(path, key), it.Value(), field.Type, out)
		}
	}
}

func unknownKey(name, path, key string, tok *token.Token, t reflect.Type) error {
	where := ""
	if path != "" {
		where = " in " + path
	}
	known := keysOf(t)
	if near, ok := Nearest(key, known); ok {
		return at(name, tok, "unknown key %q%s: did you mean %q?", key, where, near)
	}
	return at(name, tok, "unknown key %q%s: known here are %s", key, where, strings.Join(known, ", "))
}

// Nearest returns the candidate that a mistyped word most probably meant, if any is near enough to be worth saying.
func Nearest(word string, candidates []string) (string, bool) {
	best, dist := "", len(word)/3+2
	for _, c := range candidates {
		d := edits(strings.ToLower(word), strings.ToLower(c))
		if strings.HasPrefix(c, word) && len(word) > 2 {
			d = 1
		}
		if d < dist {
			best, dist = c, d
		}
	}
	return best, best != ""
}

// edits is the Damerau-Levenshtein distance (adjacent letters exchanged count once).
func edits(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		if k := keyOf(t.Field(i)); k != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if keyOf(t.Field(i)) == key {
			return t.Field(i), true
		}
	}
	return reflect.StructField{}, false
}

func keyOf(f reflect.StructField) string {
	k, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if k == "-" {
		return ""
	}
	return k
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// mistake is a fault of a document and its place there.
type mistake struct {
	name string       // the document's
	tok  *token.Token // nil: the place is not known
	text string
}

func (m *mistake) Error() string {
	if m.tok == nil || m.tok.Position == nil {
		return fmt.Sprintf("%s: %s", m.name, m.text)
	}
	return fmt.Sprintf("%s: line %d, column %d: %s", m.name, m.tok.Position.Line, m.tok.Position.Column, m.text)
}

func at(name string, tok *token.Token, format string, args ...any) error {
	return &mistake{name, tok, fmt.Sprintf(format, args...)}
}

// unplaced leaves out name and place, of a document that the reader never sees: it was made from one key and its value.
func unplaced(err error) error {
	var out []error
	for _, e := range unjoin(err) {
		var m *mistake
		if errors.As(e, &m) {
			e = errors.New(m.text)
		}
		out = append(out, e)
	}
	return errors.Join(out...)
}

// goTypes turns the decoder's words into the reader's.
var (
	goTypes  = regexp.MustCompile(`cannot unmarshal (\S+) into Go (?:struct field \S+|value) of type (\S+).*`)
	plainFor = map[string]string{"int": "a whole number", "uint64": "a whole number", "bool": "true or false", "string": "text", "float64": "a number"}
)

// located gives the decoder's error a file, line and column, on one line.
func located(name string, err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) {
		return fmt.Errorf("%s: %w", name, err)
	}
	msg := ye.GetMessage()
	if m := goTypes.FindStringSubmatch(msg); m != nil {
		want, ok := plainFor[m[2]]
		switch {
		case ok:
		case strings.HasPrefix(m[2], "[]"):
			want = "a list"
		default:
			want = "keys and values"
		}
		msg = fmt.Sprintf("want %s", want)
		if tok := ye.GetToken(); tok != nil && tok.Value != "" && !slices.Contains([]string{":", "-", "{", "["}, tok.Value) {
			msg += fmt.Sprintf(", not %q", tok.Value)
		}
	}
	return at(name, ye.GetToken(), "%s", plainly(msg))
}

// present reports whether the document has the key, given as a dotted path.
func present(text []byte, key string) bool {
	p, err := yaml.PathString("$." + key)
	if err != nil {
		return false
	}
	var v any
	return p.Read(strings.NewReader(string(text)), &v) == nil
}
