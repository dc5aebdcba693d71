package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Inherited is what a cluster takes from the servers that it is made of.
type Inherited struct {
	PostgreSQL int    // major version
	DataDir    string //
	Parameters map[string]string
	HBA, Ident []string // lines
}

// Inherit writes into a cluster.yml what the cluster inherits, and leaves the rest as it is, comments included. What the file says itself
// stays: parameters outrank inherited ones, lines follow them.
func Inherit(name string, text []byte, in Inherited) ([]byte, error) {
	d, err := ParseDeployment(name, text)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseBytes(text, parser.ParseComments)
	if err != nil {
		return nil, located(name, err)
	}
	root := &ast.MappingNode{}
	if len(file.Docs) > 0 {
		root = mapping(file.Docs[0].Body)
	}
	set := func(value string, path ...string) {
		if err == nil {
			err = setIn(root, path, value)
		}
	}
	if d.PostgreSQL == 0 {
		set(strconv.Itoa(in.PostgreSQL), "postgresql")
	}
	set(in.DataDir, "data_dir")
	own := d.Bootstrap.PostgreSQL
	for _, k := range slices.Sorted(maps.Keys(in.Parameters)) {
		if _, says := own.Parameters[k]; !says {
			set(in.Parameters[k], "bootstrap", "postgresql", "parameters", k)
		}
	}
	for key, lines := range map[string][]string{"hba": joined(in.HBA, own.HBA), "ident": joined(in.Ident, own.Ident)} {
		if len(lines) > 0 {
			set(sequence(lines), "bootstrap", "postgresql", key)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("complete %s: %w", name, err)
	}
	out := []byte(strings.TrimRight(root.String(), "\n") + "\n")
	if _, err := ParseDeployment(name, out); err != nil {
		return nil, fmt.Errorf("complete %s: %w", name, err)
	}
	return out, nil
}

// joined are the lines of both, those of the second only where the first does not have them.
func joined(first, second []string) []string {
	more := slices.DeleteFunc(slices.Clone(second), func(l string) bool { return slices.Contains(first, l) })
	return slices.Concat(first, more)
}

func sequence(lines []string) string {
	quoted := make([]string, len(lines))
	for i, l := range lines {
		quoted[i] = strconv.Quote(l)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
