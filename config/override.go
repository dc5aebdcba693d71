package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
)

// envPrefix begins the environment variables that set a key: STANDFAST_LOG_LEVEL is log.level.
const envPrefix = "STANDFAST_"

// override applies the environment, then the settings, both by the same strict decode as the file. It returns which keys it has
// set, each with where from: what is wrong with their values can't be mended in the file.
func override(n *Node, environ, settings []string) (map[string]string, error) {
	from := map[string]string{}
	vars := map[string]string{}
	for _, e := range environ {
		if k, v, ok := strings.Cut(e, "="); ok && strings.HasPrefix(k, envPrefix) {
			vars[k] = v
		}
	}
	for _, key := range scalarKeys(reflect.TypeFor[Node](), "") {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		if v, ok := vars[name]; ok {
			if err := decode("", nested(key, v), n); err != nil {
				return nil, fmt.Errorf("the environment's %s: %w", name, unplaced(err))
			}
			from[key] = "the environment's " + name
		}
	}
	for _, s := range settings {
		key, v, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--set %s: write it as key=value, such as log.level=debug", s)
		}
		if err := decode("", nested(key, v), n); err != nil {
			return nil, fmt.Errorf("--set %s: %w", s, unplaced(err))
		}
		from[key] = "--set " + s
	}
	return from, nil
}

// nested writes one dotted key as a document.
func nested(key, value string) []byte {
	var b strings.Builder
	parts := strings.Split(key, ".")
	for i, p := range parts {
		fmt.Fprintf(&b, "%s%s:", strings.Repeat("  ", i), p)
		if i < len(parts)-1 {
			b.WriteByte('\n')
		}
	}
	b.WriteByte(' ')
	b.WriteString(value)
	b.WriteByte('\n')
	return []byte(b.String())
}

// scalarKeys lists the keys that hold a single value, with the dotted path to each.
func scalarKeys(t reflect.Type, path string) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		key := join(path, keyOf(f))
		own := reflect.PointerTo(f.Type).Implements(reflect.TypeFor[yaml.BytesUnmarshaler]())
		switch {
		case f.Type.Kind() == reflect.Struct && !own:
			out = append(out, scalarKeys(f.Type, key)...)
		case f.Type.Kind() == reflect.Slice, f.Type.Kind() == reflect.Map:
		default:
			out = append(out, key)
		}
	}
	return out
}
