package config

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// ForMember makes of one member's file the file of another one of its list: the same but for the name, and for the address to
// listen on, which is one host's only. Comments are kept.
func ForMember(text []byte, name string) ([]byte, error) {
	out, err := edited(text, []Setting{{"name", name}, {"listen", ""}})
	if err != nil {
		return nil, err
	}
	if head, rest, ok := strings.Cut(string(out), "\n"); ok && strings.HasPrefix(head, "# ") {
		if _, of, ok := strings.Cut(head, " of cluster "); ok { // as founding and deployments begin a file
			out = []byte("# " + name + " of cluster " + of + "\n" + rest)
		}
	}
	n, err := ParseNode(name, out, nil, nil)
	if err != nil {
		return nil, err
	}
	for _, m := range n.Members {
		if m.Name == name {
			return out, nil
		}
	}
	return nil, fmt.Errorf("%s is not among the members of the file", name)
}

// WithSettings sets keys of a member's file, each "key=value" with a dotted key, and leaves the rest, comments included, as it is.
// Only the result is validated.
func WithSettings(name string, text []byte, settings []string) ([]byte, error) {
	var list []Setting
	for _, s := range settings {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--set %s: write it as key=value, such as log.level=debug", s)
		}
		list = append(list, Setting{key, value})
	}
	out, err := edited(text, list)
	if err != nil {
		return nil, err
	}
	_, err = ParseNode(name, out, nil, nil)
	return out, err
}

func edited(text []byte, settings []Setting) ([]byte, error) {
	file, err := parser.ParseBytes(text, parser.ParseComments)
	if err != nil {
		return nil, located("a member's file", err)
	}
	root := &ast.MappingNode{BaseNode: &ast.BaseNode{}}
	if len(file.Docs) > 0 {
		root = mapping(file.Docs[0].Body)
	}
	for _, s := range settings {
		if err := setIn(root, strings.Split(s.Key, "."), s.Value); err != nil {
			return nil, fmt.Errorf("set %s: %w", s.Key, err)
		}
	}
	return []byte(strings.TrimRight(root.String(), "\n") + "\n"), nil
}

// WithMembers makes a member's file name other members, all with their ports, and say whether it waits to be added to them. The rest,
// comments included, stays.
func WithMembers(name string, text []byte, members []Member, join bool) ([]byte, error) {
	list, err := yaml.MarshalWithOptions(members, yaml.Flow(true))
	if err != nil {
		return nil, fmt.Errorf("name the members: %w", err)
	}
	out, err := edited(text, []Setting{{"members", ""}})
	if err == nil {
		out, err = edited(out, []Setting{{"members", strings.TrimSpace(string(list))}, {"join", fmt.Sprint(join)}})
	}
	if err != nil {
		return nil, err
	}
	_, err = ParseNode(name, out, nil, nil)
	return out, err
}
