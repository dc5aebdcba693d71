package deptest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "standfast"

// may says which of our packages each of the lower ones imports; "x/..." is x and all below it. A package not named
// here stands above them all (agent, node, ops, cli, ...) and may import any of them.
var may = map[string][]string{
	"cluster":    {},
	"decide":     {"cluster"},
	"pgconf":     {"cluster"},
	"measure":    {"cluster"},
	"monitoring": {},
	"postgres":   {"cluster", "measure", "pgconf", "internal/slack"},
	"beat":       {"cluster", "internal/grid"},
	"relay":      {"cluster"},
	"router":     {"cluster"},
	"guard/...":  {"guard/..."},
	"vip":        {},
	"redirect":   {},
	"hooks":      {},
	"runbook":    {"api", "cluster", "config"},
	"logs":       {"api", "internal/redact"},
	"notify":     {"api", "config", "hooks"},
	"certs":      {},
	"join":       {"certs"},
	"config":     {"cluster"},
	"render":     {"cluster", "config"},
	"ssh":        {},
	"packaging":  {},

	"store":           {"cluster"},
	"store/mem":       {"cluster", "store"},
	"store/etcd":      {"cluster", "store"},
	"store/embed":     {"cluster", "store", "internal/slack"},
	"store/storetest": {"cluster", "store/...", "certs"},

	"deploy/distro": {},
	"deploy/bundle": {"deploy/distro"},
	"deploy/probe":  {"config", "ops/preflight", "packaging", "playground/load", "render", "vip"},
	"deploy/plan":   {"cluster", "config", "deploy/bundle", "deploy/distro", "deploy/probe", "packaging"},
	"deploy/survey": {"cluster", "config", "deploy/plan", "deploy/probe"},
	"deploy/remote": {"api", "config", "deploy", "deploy/bundle", "deploy/probe", "packaging"},
	"deploy":        {"api", "certs", "cluster", "config", "deploy/bundle", "deploy/distro", "deploy/plan", "deploy/probe", "deploy/survey", "packaging", "pgconf", "render"},

	"events": {"api", "cluster", "store"},

	"doctor":         {"api", "cluster", "doctor/facts"},
	"doctor/facts":   {},
	"doctor/dossier": {"certs", "config", "internal/redact", "packaging", "recovery"},
	"doctor/gather":  {"certs", "cluster", "config", "doctor/facts", "ops/preflight", "packaging", "pgconf", "vip"},
	"doctor/collect": {"api", "api/client", "cluster", "config", "doctor", "doctor/facts", "doctor/gather"},

	"api":        {"cluster", "api/web", "measure"},
	"api/web":    {},
	"api/client": {"cluster", "api"},

	"recovery": {"cluster"},
}

// only says who may import a package of the upper layers, so that nothing below comes to depend on it.
var only = map[string][]string{
	"cli":   {"cmd/..."},
	"node":  {"cli"},
	"agent": {"node", "sim"},
	"sim":   {"ops/whatif"}, // it plays a fault in a world like the cluster; nothing that runs a cluster may depend on the simulator
}

// impure is what a pure package may not import, and, for packages that hold values as well, may not mention.
var impure = map[string][]string{
	"os": nil, "os/exec": nil, "net": nil, "io/fs": nil, "syscall": nil, "context": nil, "log": nil, "log/slog": nil,
	"math/rand": nil, "math/rand/v2": nil, "crypto/rand": nil, "sync": nil, "sync/atomic": nil, "runtime": nil,
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"},
}

// source is one parsed file, not of a test.
type source struct {
	pkg  string // relative to the module
	path string
	ast  *ast.File
}

func TestImportsPointOneWay(t *testing.T) {
	files := parse(t)
	for _, f := range files {
		for _, imported := range ours(f) {
			if allowed, ruled := rule(f.pkg); ruled && imported != f.pkg && !matches(allowed, imported) {
				t.Errorf("%s: %s imports %s; it may import only %v", f.path, f.pkg, imported, allowed)
			}
			if by, ok := only[imported]; ok && !matches(by, f.pkg) {
				t.Errorf("%s: %s imports %s; only %v may", f.path, f.pkg, imported, by)
			}
		}
	}
	for name := range may {
		if !slices.ContainsFunc(files, func(f source) bool { return matches([]string{name}, f.pkg) }) {
			t.Errorf("there is no package %s any more: take it out of the table", name)
		}
	}
}

func TestPurePackagesTouchNothing(t *testing.T) {
	pure := []string{"cluster", "decide", "pgconf", "render"}
	for _, f := range parse(t) {
		if !slices.Contains(pure, f.pkg) {
			continue
		}
		for _, bad := range impurities(f.ast) {
			t.Errorf("%s: %s is pure, and uses %s", f.path, f.pkg, bad)
		}
	}
}

// TestTheTestCanFail feeds it what it must object to.
func TestTheTestCanFail(t *testing.T) {
	const text = `package p
import ("os"; clock "time"; _ "time")
func f() { go f(); _ = clock.Now; _ = os.Args; var d clock.Duration; _ = d }`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", text, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"os", "a goroutine", "time.Now"}
	if got := impurities(file); !slices.Equal(got, want) {
		t.Errorf("impurities: got %q, want %q", got, want)
	}
	for name, c := range map[string]struct {
		allowed []string
		pkg     string
		want    bool
	}{
		"itself":           {[]string{"store"}, "store", true},
		"below":            {[]string{"store"}, "store/etcd", false},
		"all below":        {[]string{"store/..."}, "store/etcd", true},
		"all, itself":      {[]string{"store/..."}, "store", true},
		"same beginning":   {[]string{"store/..."}, "storehouse", false},
		"nothing is given": {nil, "cluster", false},
	} {
		if got := matches(c.allowed, c.pkg); got != c.want {
			t.Errorf("%s: matches(%v, %s) = %v", name, c.allowed, c.pkg, got)
		}
	}
}

// impurities lists what the file uses that a pure package may not, in the order of the file.
func impurities(file *ast.File) []string {
	var found []string
	calls := map[string][]string{} // by the name that the file gives the import
	paths := map[string]string{}
	for _, spec := range file.Imports {
		path := importPath(spec)
		names, listed := impure[path]
		switch {
		case listed && names == nil:
			found = append(found, path)
		case listed:
			name := filepath.Base(path)
			if spec.Name != nil {
				name = spec.Name.Name
			}
			calls[name], paths[name] = names, path
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, "a goroutine")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(calls[x.Name], n.Sel.Name) {
				found = append(found, fmt.Sprintf("%s.%s", paths[x.Name], n.Sel.Name))
			}
		}
		return true
	})
	return found
}

// rule returns what the package may import, and whether the table speaks of it.
func rule(pkg string) ([]string, bool) {
	if allowed, ok := may[pkg]; ok {
		return allowed, true
	}
	for name, allowed := range may {
		if strings.HasSuffix(name, "/...") && matches([]string{name}, pkg) {
			return allowed, true
		}
	}
	return nil, false
}

func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		root, below := strings.CutSuffix(p, "/...")
		return pkg == root || below && strings.HasPrefix(pkg, root+"/")
	})
}

// ours lists the imports that are packages of this module.
func ours(f source) []string {
	var out []string
	for _, spec := range f.ast.Imports {
		if name, ok := strings.CutPrefix(importPath(spec), module+"/"); ok {
			out = append(out, name)
		}
	}
	return out
}

func importPath(spec *ast.ImportSpec) string {
	path, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		panic(err) // the parser has accepted it
	}
	return path
}

// parse reads every file of the module that is not a test, whatever its build constraints.
func parse(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("the module's root is not where this test looks: %v", err)
	}
	var out []source
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "vendor"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		out = append(out, source{pkg: filepath.ToSlash(filepath.Dir(rel)), path: rel, ast: file})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
