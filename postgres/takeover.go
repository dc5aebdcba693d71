package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"standfast/pgconf"
)

// A primary that something else has started can be run as it is: what safety rests on is on the command line for the sake of standbys
// (where WAL comes from) and of starts (which files are read), and a primary that runs does neither. The rest can be changed under it:
//
//   - parameters: the site's own postgresql.conf includes a file of ours at its end; what ALTER SYSTEM has set of ours is reset;
//   - pg_hba.conf and pg_ident.conf, whose places can't be changed, become links to ours;
//   - the Unix socket is reached through a link in our directory.
//
// It stays so until that server ends. What follows is a start of ours, with our command line, and as a standby.

// Taken is what a takeover has replaced, so that it can be given back. It lies beside the passwords.
type Taken struct {
	Postmaster string            `json:"postmaster"` // the first lines of postmaster.pid: process, directory, start
	Config     string            `json:"config"`     // paths of the site's own files
	HBA        string            `json:"hba"`        //
	Ident      string            `json:"ident"`      //
	Auto       map[string]string `json:"auto"`       // what ALTER SYSTEM had set and was reset
}

// kept is what the site's own files are called after a takeover.
const kept = ".before-standfast"

// includeNote stands before the line that is added to the site's postgresql.conf.
const includeNote = "# Added by standfast adopt, and of no effect once Standfast has started this server itself:"

func (c Config) inPlaceFile() string { return filepath.Join(c.DataDir, "standfast_inplace.conf") }

func (c Config) takenFile() string {
	dir := c.PasswordDir
	if dir == "" {
		dir = filepath.Dir(c.DataDir)
	}
	return filepath.Join(dir, "taken.json")
}

// started is what tells this start of a server from every other: a postmaster writes it anew.
func (c Config) started() (string, error) {
	b, err := os.ReadFile(c.pidFile())
	if err != nil {
		return "", err
	}
	lines := strings.SplitN(string(b), "\n", 4)
	if len(lines) < 4 {
		return "", fmt.Errorf("%s is not complete", c.pidFile())
	}
	return strings.Join(lines[:3], "\n"), nil
}

func (c Config) taken() (*Taken, error) {
	b, err := os.ReadFile(c.takenFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	t := &Taken{}
	if err == nil {
		err = json.Unmarshal(b, t)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was taken over: %w", err)
	}
	return t, nil
}

// InPlace reports whether the server runs as something else started it, and was taken over.
func (s *Server) InPlace() bool { return s.config().inPlace }

// tookOver recognises a primary that was taken over. Another start of the same data is nobody's.
func (s *Server) tookOver(w *watch) (bool, error) {
	c := s.config()
	t, err := c.taken()
	if err != nil || t == nil {
		return false, err
	}
	now, err := c.started()
	if err != nil || now != t.Postmaster {
		return false, err
	}
	if standby, err := s.StandbyData(); standby || err != nil {
		return false, err
	}
	s.mu.Lock()
	s.taken = w
	s.mu.Unlock()
	return true, nil
}

// reloadable are those parameters of the command line that a running server takes from a file.
func (c Config) reloadable() []pgconf.Setting {
	names := []string{"fsync", "full_page_writes", "restart_after_crash", "ssl", "ssl_ca_file", "ssl_cert_file", "ssl_key_file", "update_process_title"}
	return slices.DeleteFunc(c.commandLine(), func(s pgconf.Setting) bool { return !slices.Contains(names, s.Name) })
}

// TakeOver makes a running primary, which something else has started, one that Adopt recognises, without a restart and without keeping
// anybody out. Its commits ask no standby from then on, until the cluster's rule is in force. Begun again it goes on; when something is
// refused on the way, everything is given back.
//
// It is run as the user that owns the data, outside of the agent, which may not write where the site's files are.
func (s *Server) TakeOver(ctx context.Context) error {
	release, err := s.exclusive(ctx)
	if err == nil {
		defer release()
		if err = s.takeOver(ctx); err != nil {
			err = errors.Join(err, s.giveBack(context.WithoutCancel(ctx)))
		}
	}
	if err != nil {
		return fmt.Errorf("take over the running PostgreSQL: %w", err)
	}
	return nil
}

func (s *Server) takeOver(ctx context.Context) error {
	c := s.config()
	if err := c.linkSocket(); err != nil {
		return err
	}
	t, err := s.noteTaken(ctx, c)
	if err != nil {
		return err
	}
	if err := s.createRoles(ctx); err != nil {
		return err
	}
	ours := c
	ours.inPlace = true
	if err := errors.Join(
		c.writeFile(c.inPlaceFile(), []byte(ours.confText(nil)), true),
		c.writeFile(c.hbaFile(), []byte(c.hba(true)), true),
		c.writeFile(c.identFile(), []byte(c.ident()), true),
	); err != nil {
		return err
	}
	if err := errors.Join(c.replaceByLink(t.HBA, c.hbaFile()), c.replaceByLink(t.Ident, c.identFile()), c.include(t.Config)); err != nil {
		return err
	}
	if err := s.resetOwned(ctx, t); err != nil {
		return err
	}
	return s.seeTaken(ctx)
}

// noteTaken looks where the site's files are and remembers it, durably, before anything is replaced.
func (s *Server) noteTaken(ctx context.Context, c Config) (*Taken, error) {
	now, err := c.started()
	if err != nil {
		return nil, err
	}
	was, err := c.taken()
	if err != nil || was != nil && was.Postmaster == now {
		return was, err
	}
	t := &Taken{Postmaster: now, Auto: map[string]string{}}
	standby := false
	err = s.fresh(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select current_setting('config_file'), current_setting('hba_file'), current_setting('ident_file'), pg_is_in_recovery()").
			Scan(&t.Config, &t.HBA, &t.Ident, &standby)
	})
	if err == nil && standby {
		err = errors.New("it is a standby")
	}
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(c.autoFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if t.Auto, err = pgconf.Auto(string(text)); err != nil {
		return nil, fmt.Errorf("%s: %w", c.autoFile(), err)
	}
	outranks := []string{"synchronous_standby_names", "synchronized_standby_slots"}
	for _, p := range c.reloadable() {
		outranks = append(outranks, p.Name)
	}
	maps.DeleteFunc(t.Auto, func(k, _ string) bool { return !slices.Contains(outranks, k) })
	return t, c.writeTaken(*t)
}

func (c Config) writeTaken(t Taken) error {
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(c.makeDir(filepath.Dir(c.takenFile())), c.writeFile(c.takenFile(), append(b, '\n'), true))
}

// linkSocket has the server's own Unix socket found where ours would be. A later start of ours replaces the link by its socket.
func (c Config) linkSocket() error {
	b, err := os.ReadFile(c.pidFile()) // line 4 is the port, line 5 the first socket directory (pidfile.h)
	if err != nil {
		return err
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 5 || strings.TrimSpace(lines[4]) == "" {
		return errors.New("it has no Unix socket (unix_socket_directories), by which it would be looked after")
	}
	if port, err := strconv.Atoi(lines[3]); err != nil || port != c.Port {
		return fmt.Errorf("it listens on port %s, and ports.postgres says %d", lines[3], c.Port)
	}
	name := fmt.Sprintf(".s.PGSQL.%d", c.Port)
	target, link := filepath.Join(strings.TrimSpace(lines[4]), name), filepath.Join(c.SocketDir, name)
	if err := c.makeDir(c.SocketDir); err != nil {
		return err
	}
	if is, err := os.Readlink(link); err == nil && is == target {
		return nil
	}
	return errors.Join(removeFile(link), os.Symlink(target, link))
}

// replaceByLink puts a link in a file's place and keeps the file beside it.
func (c Config) replaceByLink(path, target string) error {
	if is, err := os.Readlink(path); err == nil && is == target {
		return nil
	}
	if _, err := os.Stat(path + kept); errors.Is(err, fs.ErrNotExist) {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := c.writeFile(path+kept, text, true); err != nil {
			return err
		}
	}
	link := path + ".standfast-new"
	if err := errors.Join(removeFile(link), os.Symlink(target, link)); err != nil {
		return err
	}
	return errors.Join(os.Rename(link, path), syncDir(filepath.Dir(path)))
}

// include adds the line to the site's postgresql.conf by which ours outranks it.
func (c Config) include(path string) error {
	text, err := os.ReadFile(path)
	if err != nil || bytes.Contains(text, []byte(includeNote)) {
		return err
	}
	if err := c.writeFile(path+kept, text, true); err != nil {
		return err
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return c.rewrite(path, append(text, c.included()...))
}

func (c Config) included() string {
	return includeNote + "\ninclude_if_exists = " + pgconf.Literal(c.inPlaceFile()) + "\n"
}

// rewrite replaces a file of the site's and keeps its mode.
func (c Config) rewrite(path string, text []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := c.writeFile(path, text, true); err != nil {
		return err
	}
	return os.Chmod(path, info.Mode().Perm())
}

// resetOwned takes out of postgresql.auto.conf what would outrank ours. The names of standbys are emptied there: the site's own file may
// name some too.
func (s *Server) resetOwned(ctx context.Context, t *Taken) error {
	var statements []string
	for _, name := range slices.Sorted(maps.Keys(t.Auto)) {
		statements = append(statements, "alter system reset "+name)
	}
	return s.inTurn(ctx, append(statements, "alter system set synchronous_standby_names = ''"))
}

// inTurn carries out statements that can't share a transaction.
func (s *Server) inTurn(ctx context.Context, statements []string) error {
	return s.fresh(ctx, func(conn *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
}

// seeTaken puts everything in force and compares.
func (s *Server) seeTaken(ctx context.Context) error {
	c := s.config()
	w, err := s.hold(c)
	if err != nil {
		return err
	}
	s.setWatch(w)
	want := map[string]string{"synchronous_standby_names": ""}
	for _, p := range c.reloadable() {
		want[p.Name] = p.Value
	}
	var differs error
	err = s.reload(ctx, func(conn *pgx.Conn) (bool, error) {
		refused, err := s.refusedLine(ctx, conn)
		if err != nil || refused != nil {
			return false, errors.Join(err, refused)
		}
		differs = nil
		for _, name := range slices.Sorted(maps.Keys(want)) {
			var have string
			if err := conn.QueryRow(ctx, "select current_setting($1)", name).Scan(&have); err != nil {
				return false, err
			}
			if have != want[name] {
				differs = fmt.Errorf("%s stays %q", name, have)
			}
		}
		return differs == nil, nil
	})
	return errors.Join(err, differs)
}

// hold watches the postmaster, whoever started it.
func (s *Server) hold(c Config) (*watch, error) {
	pid, _ := c.lockFile()
	if pid == 0 {
		return nil, errors.New("it does not run")
	}
	return watchProcess(pid, nil)
}

// GiveBack undoes TakeOver: the server goes on by the site's own files. Nothing may look after it any more.
func (s *Server) GiveBack(ctx context.Context) error {
	release, err := s.exclusive(ctx)
	if err == nil {
		defer release()
		err = s.giveBack(ctx)
	}
	if err != nil {
		return fmt.Errorf("give the running PostgreSQL back: %w", err)
	}
	return nil
}

func (s *Server) giveBack(ctx context.Context) error {
	c := s.config()
	t, err := c.taken()
	if err != nil || t == nil {
		return err
	}
	if now, err := c.started(); err != nil || now != t.Postmaster {
		return errors.Join(err, errors.New("it has been started anew since it was taken over"))
	}
	if err := s.restoreAuto(ctx, c, t); err != nil {
		return err
	}
	if err := errors.Join(restore(t.HBA), restore(t.Ident), c.exclude(t.Config), removeFile(c.inPlaceFile())); err != nil {
		return err
	}
	w, err := s.hold(c)
	if err != nil {
		return err
	}
	s.setWatch(w)
	if err := w.signal(1); err != nil { // SIGHUP
		return err
	}
	return errors.Join(removeFile(c.hbaFile()), removeFile(c.identFile()), removeFile(c.takenFile()), removeFile(filepath.Join(c.SocketDir, fmt.Sprintf(".s.PGSQL.%d", c.Port))))
}

// restoreAuto sets again what was reset, and takes our roles and our schema out.
func (s *Server) restoreAuto(ctx context.Context, c Config, t *Taken) error {
	text, err := os.ReadFile(c.autoFile())
	if err != nil {
		return err
	}
	now, err := pgconf.Auto(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", c.autoFile(), err)
	}
	var statements []string
	for _, name := range []string{"synchronous_standby_names", "synchronized_standby_slots"} {
		if _, set := now[name]; set {
			statements = append(statements, "alter system reset "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Auto)) {
		statements = append(statements, "alter system set "+name+" = "+pgconf.Literal(t.Auto[name]))
	}
	for _, role := range []string{pgconf.ReplicationRole, pgconf.RewindRole, pgconf.MonitorRole} {
		statements = append(statements, fmt.Sprintf("do $do$ begin if exists (select from pg_roles where rolname = %[1]s) then drop owned by %[2]s; drop role %[2]s; end if; end $do$", pgconf.Literal(role), role))
	}
	return s.inTurn(ctx, append(statements, "drop schema if exists standfast cascade"))
}

// restore puts a file back that was replaced by a link.
func restore(path string) error {
	if _, err := os.Readlink(path); err != nil {
		return nil // it was not
	}
	if _, err := os.Stat(path + kept); err != nil {
		return err
	}
	return errors.Join(os.Rename(path+kept, path), syncDir(filepath.Dir(path)))
}

// exclude takes our line out of the site's postgresql.conf, which may have been changed since.
func (c Config) exclude(path string) error {
	text, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(text, []byte(includeNote)) {
		return err
	}
	if err := c.rewrite(path, bytes.Replace(text, []byte(c.included()), nil, 1)); err != nil {
		return err
	}
	return removeFile(path + kept)
}
