package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Change is one key that differs between two documents. An empty side means that the key is not there.
type Change struct{ Key, From, To string }

// String gives "durability: quorum → async".
func (c Change) String() string {
	show := func(s string) string {
		if s == "" {
			return "(none)"
		}
		return s
	}
	return fmt.Sprintf("%s: %s → %s", c.Key, show(c.From), show(c.To))
}

// Diff lists what differs, by key.
func Diff(from, to Cluster) []Change {
	a, b := map[string]value{}, map[string]value{}
	flatten("", reflect.ValueOf(from), a)
	flatten("", reflect.ValueOf(to), b)
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	var out []Change
	for _, k := range sortedKeys(all) {
		if a[k] != b[k] {
			out = append(out, Change{k, a[k].show(), b[k].show()})
		}
	}
	return out
}

// value is one key's, and whether it is shown without what may be secret.
type value struct {
	text   string
	secret bool
}

func (v value) show() string {
	if v.secret {
		return Address(v.text).Masked()
	}
	return v.text
}

func flatten(path string, v reflect.Value, out map[string]value) {
	switch {
	case v.Type() == reflect.TypeFor[Address]():
		out[path] = value{v.String(), true}
	case v.Kind() == reflect.Pointer:
		if !v.IsNil() {
			out[path] = value{text: fmt.Sprint(v.Interface())}
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			flatten(join(path, keyOf(v.Type().Field(i))), v.Field(i), out)
		}
	case v.Kind() == reflect.Map:
		for _, k := range v.MapKeys() {
			flatten(join(path, k.String()), v.MapIndex(k), out)
		}
	case v.Kind() == reflect.Slice:
		if v.Len() > 0 {
			out[path] = value{text: fmt.Sprintf("%q", v.Interface())}
		}
	default:
		out[path] = value{text: fmt.Sprint(v.Interface())}
	}
}

// Setting is one key to change. The key is dotted, as in "postgresql.parameters.work_mem"; an empty value takes the key
// out, so that the default holds again.
type Setting struct{ Key, Value string }

// Set is SetAll for one key.
func Set(text []byte, key, value string) ([]byte, error) { return SetAll(text, Setting{key, value}) }

// setError names what was set, unless the error begins with it. What the decoder finds has no file to name.
func setError(keys []string, err error) error {
	text := strings.TrimPrefix(err.Error(), ": ")
	if len(keys) == 1 && strings.HasPrefix(text, keys[0]+": ") {
		return fmt.Errorf("set %s", text)
	}
	return fmt.Errorf("set %s: %s", strings.Join(keys, ", "), text)
}

// SetAll changes keys of the agreed configuration's text and leaves the rest, comments included, as it is. Only the result
// is validated, since one key may make sense together with another only.
func SetAll(text []byte, settings ...Setting) ([]byte, error) {
	var keys []string
	for _, s := range settings {
		var err error
		if text, err = set(text, s); err != nil {
			return nil, err
		}
		keys = append(keys, s.Key)
	}
	if _, err := ParseCluster("", text); err != nil {
		return nil, setError(keys, unplaced(err))
	}
	return text, nil
}

func set(text []byte, s Setting) ([]byte, error) {
	path, err := keyPath(s.Key)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseBytes(text, parser.ParseComments)
	if err != nil {
		return nil, located("the cluster's configuration", err)
	}
	root := &ast.MappingNode{}
	if len(file.Docs) > 0 {
		root = mapping(file.Docs[0].Body)
	}
	if err := setIn(root, path, s.Value); err != nil {
		return nil, fmt.Errorf("set %s: %w", s.Key, err)
	}
	if len(root.Values) == 0 {
		return nil, nil
	}
	return []byte(strings.TrimRight(root.String(), "\n") + "\n"), nil
}

// keyPath splits a dotted key, keeping the name of a PostgreSQL parameter in one piece though it may hold a dot.
func keyPath(key string) ([]string, error) {
	t := reflect.TypeFor[Cluster]()
	parts := strings.Split(key, ".")
	for i, part := range parts {
		f, ok := fieldOf(t, part)
		if !ok {
			if near, ok := Nearest(part, keysOf(t)); ok {
				return nil, fmt.Errorf("unknown key %q: did you mean %q?", key, strings.Join(append(parts[:i:i], near), "."))
			}
			return nil, fmt.Errorf("unknown key %q: known are %s; PostgreSQL's own go under postgresql.parameters, as in postgresql.parameters.work_mem", key, strings.Join(keysOf(t), ", "))
		}
		switch t = f.Type; t.Kind() {
		case reflect.Map:
			if i+1 == len(parts) {
				return nil, fmt.Errorf("%s holds several values; name one, such as %s.work_mem", key, key)
			}
			return append(parts[:i+1:i+1], strings.Join(parts[i+1:], ".")), nil
		case reflect.Struct:
			if i+1 == len(parts) {
				return nil, fmt.Errorf("%s holds several keys; name one of %s", key, strings.Join(keysOf(t), ", "))
			}
		default:
			if i+1 < len(parts) {
				return nil, fmt.Errorf("%s holds a single value; there is nothing below it", strings.Join(parts[:i+1], "."))
			}
		}
	}
	return parts, nil
}

// mapping gives a body of one key (which the parser does not wrap) the form of one with several.
func mapping(n ast.Node) *ast.MappingNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n
	case *ast.MappingValueNode:
		return &ast.MappingNode{BaseNode: &ast.BaseNode{}, Start: n.Start, Values: []*ast.MappingValueNode{n}}
	}
	return &ast.MappingNode{BaseNode: &ast.BaseNode{}}
}

func setIn(m *ast.MappingNode, path []string, value string) error {
	for i, v := range m.Values {
		if v.Key.String() != path[0] {
			continue
		}
		if len(path) == 1 && value == "" {
			m.Values = append(m.Values[:i], m.Values[i+1:]...)
			return nil
		}
		if len(path) > 1 && v.Value.Type() != ast.NullType {
			below := mapping(v.Value)
			if err := setIn(below, path[1:], value); err != nil {
				return err
			}
			if len(below.Values) == 0 {
				m.Values = append(m.Values[:i], m.Values[i+1:]...)
				return nil
			}
			return v.Replace(below)
		}
		fresh, err := entry(path, value, v.Key.GetToken().Position.Column, m.IsFlowStyle)
		if err != nil {
			return err
		}
		keepComments(v, fresh)
		m.Values[i] = fresh
		return nil
	}
	if value == "" {
		return nil // it is not there already
	}
	column := 1
	if len(m.Values) > 0 {
		column = m.Values[0].Key.GetToken().Position.Column
	}
	fresh, err := entry(path, value, column, m.IsFlowStyle)
	if err == nil {
		m.Values = append(m.Values, fresh)
	}
	return err
}

// keepComments moves the lines above an entry, and the words after its value, to the entry that replaces it.
func keepComments(old, fresh *ast.MappingValueNode) {
	if c := old.GetComment(); c != nil {
		_ = fresh.SetComment(c) // it fails only for kinds of node that hold none
	}
	if c := old.Value.GetComment(); c != nil {
		_ = fresh.Value.SetComment(c)
	}
}

// entry parses "a:\n  b: value" and moves it to the column it will stand in. Within braces it has to be in braces too.
func entry(path []string, value string, column int, flow bool) (*ast.MappingValueNode, error) {
	node, err := yaml.ValueToNode(tree(path, value), yaml.Flow(flow))
	if err != nil {
		return nil, err
	}
	m := mapping(node)
	if len(m.Values) != 1 {
		return nil, fmt.Errorf("%q is not one value", value)
	}
	m.Values[0].AddColumn(column - 1)
	return m.Values[0], nil
}

// quoting has the texts of a list quoted where they need it: within braces a comma would end them.
func quoting(v any) any {
	switch v := v.(type) {
	case string:
		return Text(v)
	case []any:
		for i := range v {
			v[i] = quoting(v[i])
		}
	}
	return v
}

func tree(path []string, value string) any {
	var v any = Text(value)
	if strings.HasPrefix(value, "[") || value == "true" || value == "false" {
		var parsed any
		if yaml.Unmarshal([]byte(value), &parsed) == nil {
			v = quoting(parsed)
		}
	}
	for i := len(path) - 1; i >= 0; i-- {
		v = map[string]any{path[i]: v}
	}
	return v
}
