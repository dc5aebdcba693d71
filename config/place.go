package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// placed gives each problem of a document the place where it can be mended: the line and column of its key, or of the
// nearest key around it where the document leaves it out; or, for a value that was set over the document, from where. What came
// from elsewhere (a default) has no place.
func placed(name string, text []byte, from map[string]string, err error) error {
	if err == nil {
		return nil
	}
	var body ast.Node
	if file, err := parser.ParseBytes(text, 0); err == nil && len(file.Docs) > 0 {
		body = file.Docs[0].Body
	}
	var out []error
	for _, e := range unjoin(err) {
		var p *problem
		var tok *token.Token
		if errors.As(e, &p) {
			if where := setFrom(from, p.key); where != "" {
				out = append(out, fmt.Errorf("%s: %w", where, e))
				continue
			}
			tok = place(body, p.key)
		}
		out = append(out, at(name, tok, "%s", e.Error()))
	}
	return errors.Join(out...)
}

// setFrom says where the key was set over the document, by itself or with one around it; "" if it was not.
func setFrom(from map[string]string, key string) string {
	for key != "" {
		if where, ok := from[key]; ok {
			return where
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return ""
}

// place finds the token of a key given as a path such as "members[2].ports.health", counted from 1. It is that of the last
// part that is there; nil if none is.
func place(n ast.Node, path string) *token.Token {
	var found *token.Token
	for path != "" && n != nil {
		key, rest, _ := strings.Cut(path, ".")
		key, index, listed := strings.Cut(strings.TrimSuffix(key, "]"), "[")
		at, value := lookUp(n, key)
		if at == nil { // a PostgreSQL parameter may have a dot in its name
			if at, _ = lookUp(n, path); at != nil {
				return at
			}
			return found
		}
		found, n, path = at, value, rest
		if !listed {
			continue
		}
		i, err := strconv.Atoi(index)
		seq, ok := n.(*ast.SequenceNode)
		if err != nil || !ok || i < 1 || i > len(seq.Values) {
			return found
		}
		n = seq.Values[i-1]
		found = first(n)
	}
	return found
}

func lookUp(n ast.Node, key string) (*token.Token, ast.Node) {
	m, ok := n.(ast.MapNode)
	if !ok {
		return nil, nil
	}
	for it := m.MapRange(); it.Next(); {
		if it.Key().String() == key {
			return it.Key().GetToken(), it.Value()
		}
	}
	return nil, nil
}

// first is where a list's entry begins: a map's own token is its first colon.
func first(n ast.Node) *token.Token {
	if m, ok := n.(ast.MapNode); ok {
		if it := m.MapRange(); it.Next() {
			return it.Key().GetToken()
		}
	}
	return n.GetToken()
}

// plainly says in everyday words what the YAML parser says in its own. The text between braces is the parser's.
func plainly(msg string) string {
	for _, w := range []struct{ theirs, ours string }{
		{"found character '\t' that cannot start any token", "a tab can't indent here; use blanks"},
		{"found a tab character", "a tab can't indent here; use blanks"},
		{"sequence end token ']' not found", "a [ is not closed by a ]"},
		{"could not find flow mapping end token '}'", "a { is not closed by a }"},
		{"mapping value is not allowed in this context", "a second \": \" in one value; indent the line like its neighbours, or put the value in quotes"},
		{"sequence was used where mapping is expected", "want keys and values here, not a list"},
		{"string was used where sequence is expected", "want a list here, such as [a, b]"},
		{"mapping was used where sequence is expected", "want a list here, each entry on a line of its own after \"- \""},
		{"string was used where mapping is expected", "want keys and values here, such as \"a: 1\""},
	} {
		if strings.Contains(msg, w.theirs) {
			return w.ours
		}
	}
	var key string
	var line, column int
	if n, _ := fmt.Sscanf(msg, "mapping key %q already defined at [%d:%d]", &key, &line, &column); n == 3 {
		return fmt.Sprintf("key %q is there twice, first in line %d; leave one", key, line)
	}
	return msg
}
