// Package founding makes the files that the members of a new cluster start from: one directory for each, with its
// configuration, its certificate, the secret that authenticates heartbeats and the token that changes are made with.
package founding

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"standfast/certs"
	"standfast/config"

	"github.com/goccy/go-yaml"
	"github.com/google/renameio/v2"
)

// FileName is the configuration in a member's directory.
const FileName = "standfast.yml"

// Spec describes a cluster to be founded. In members only Name and Address are needed.
type Spec struct {
	Cluster  string
	Members  []config.Member
	Settings []string // more of each member's file, as "key=value" with dotted keys

	// Home is the directory where the member will find its files, StateDir where it will keep its state. "": the defaults.
	Home     func(member string) string
	StateDir func(member string) string

	// Also are further host names and addresses that certificates are good for.
	Also []string
}

// Write validates the whole, then writes each member's directory and, in its own, the certificate authority, which
// is needed again only to add a member.
func (s Spec) Write(caDir string, dir func(member string) string, now time.Time) error {
	texts, err := s.texts()
	if err != nil {
		return err
	}
	ca, err := certs.NewCA(s.Cluster, now)
	if err != nil {
		return err
	}
	if err := ca.Write(caDir); err != nil {
		return err
	}
	secret, token := rand.Text(), rand.Text() // 128 bits of chance each
	for i, m := range s.Members {
		if err := s.writeMember(dir(m.Name), m, texts[i], ca, secret, token, now); err != nil {
			return fmt.Errorf("write the files of %s: %w", m.Name, err)
		}
	}
	return nil
}

// texts are the members' files, all of them valid.
func (s Spec) texts() ([][]byte, error) {
	texts := make([][]byte, len(s.Members))
	for i, m := range s.Members {
		var err error
		if texts[i], err = s.render(m.Name); err != nil {
			return nil, err
		}
		if _, err := config.ParseNode(m.Name, texts[i], nil, s.Settings); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// WriteFirst validates the whole, then writes the directory of one member only: the others join it. The authority's key lies nowhere
// but in that directory, sealed.
func (s Spec) WriteFirst(member, dir string, now time.Time) (*certs.CA, error) {
	texts, err := s.texts()
	if err != nil {
		return nil, err
	}
	ca, err := certs.NewCA(s.Cluster, now)
	if err != nil {
		return nil, err
	}
	for i, m := range s.Members {
		if m.Name == member {
			return ca, s.writeMember(dir, m, texts[i], ca, rand.Text(), rand.Text(), now)
		}
	}
	return nil, fmt.Errorf("%s is not among the members", member)
}

func (s Spec) writeMember(dir string, m config.Member, text []byte, ca *certs.CA, secret, token string, now time.Time) error {
	pair, err := ca.Issue(m.Name, append([]string{m.Address}, s.Also...), now)
	if err != nil {
		return err
	}
	tls := filepath.Join(dir, "tls")
	if err := certs.In(tls).Write(ca.Cert, pair); err != nil {
		return err
	}
	if err := ca.WriteSealed(tls, []byte(secret)); err != nil {
		return err
	}
	return writeWords(dir, secret, token, text)
}

// WriteJoined writes the directory of a member that has been admitted: what founding would have written, but for the authority,
// which the cluster has.
func WriteJoined(dir string, authorities []byte, pair certs.Pair, secret, token string, text []byte) error {
	if err := certs.In(filepath.Join(dir, "tls")).Write(authorities, pair); err != nil {
		return err
	}
	return writeWords(dir, secret, token, text)
}

// writeWords writes the configuration last: where it is there, a service starts.
func writeWords(dir, secret, token string, text []byte) error {
	for _, f := range []struct {
		name string
		text []byte
		mode os.FileMode
	}{{"secret", []byte(secret + "\n"), 0o600}, {"token", []byte(token + "\n"), 0o600}, {FileName, text, 0o644}} {
		if err := renameio.WriteFile(filepath.Join(dir, f.name), f.text, f.mode, renameio.WithStaticPermissions(f.mode)); err != nil {
			return err
		}
	}
	return nil
}

// render writes a member's file: what it must say, and nothing that is a default anyway.
func (s Spec) render(member string) ([]byte, error) {
	home := "/etc/standfast"
	doc := yaml.MapSlice{{Key: "cluster", Value: s.Cluster}, {Key: "name", Value: member}}
	if s.StateDir != nil {
		doc = append(doc, yaml.MapItem{Key: "state_dir", Value: s.StateDir(member)})
	}
	if s.Home != nil {
		home = s.Home(member)
		doc = append(doc,
			yaml.MapItem{Key: "tls_dir", Value: filepath.Join(home, "tls")},
			yaml.MapItem{Key: "secret_file", Value: filepath.Join(home, "secret")},
			yaml.MapItem{Key: "token_file", Value: filepath.Join(home, "token")})
	}
	doc = append(doc, yaml.MapItem{Key: "members", Value: s.Members})
	for _, set := range s.Settings {
		key, value, _ := strings.Cut(set, "=")
		doc = put(doc, strings.Split(key, "."), value)
	}
	body, err := yaml.MarshalWithOptions(doc, yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("render the file of %s: %w", member, err)
	}
	head := fmt.Sprintf("# %s of cluster %s. Everything that is not said here has its default: see \"standfast config sample\".\n", member, s.Cluster)
	return append([]byte(head), body...), nil
}

// put sets a dotted key in an ordered document.
func put(doc yaml.MapSlice, path []string, value string) yaml.MapSlice {
	for i, item := range doc {
		if item.Key == path[0] {
			if below, ok := item.Value.(yaml.MapSlice); ok && len(path) > 1 {
				doc[i].Value = put(below, path[1:], value)
			} else {
				doc[i].Value = scalarOrList(value)
			}
			return doc
		}
	}
	if len(path) > 1 {
		return append(doc, yaml.MapItem{Key: path[0], Value: put(nil, path[1:], value)})
	}
	return append(doc, yaml.MapItem{Key: path[0], Value: scalarOrList(value)})
}

// scalarOrList reads a list or a map written in YAML's flow style, "[a, b]"; anything else is text.
func scalarOrList(value string) any {
	if strings.HasPrefix(value, "[") || strings.HasPrefix(value, "{") {
		var v any
		if err := yaml.Unmarshal([]byte(value), &v); err == nil {
			return v
		}
	}
	if value == "true" || value == "false" {
		return value == "true" // as text it would be quoted, and refused where a truth is wanted
	}
	return config.Text(value)
}
