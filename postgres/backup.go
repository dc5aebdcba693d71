package postgres

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"standfast/cluster"
	"standfast/pgconf"
)

// backupApplication is the application_name of a base backup for keeping. It is no member's, so that it never counts in the
// commit rule, and a change of the rule does not end it.
const backupApplication = "standfast_backup"

// BackupSpec says where a base backup goes and in which form.
type BackupSpec struct {
	Dir         string // made; must be absent or empty
	Plain       bool   // files as in a data directory; otherwise tar files
	Compress    int    // gzip's level for tar files, 1 to 9; 0: not compressed
	Label       string
	Tablespaces []Tablespace // of a plain one: where each goes, below Dir's parent (see TablespaceDir)
}

// Tablespace is a directory outside the data directory that tables are kept in.
type Tablespace struct {
	OID  uint32 `json:"oid"`
	Path string `json:"path"` // on every member
}

// TablespaceDir is where a plain backup in dir keeps a tablespace.
func TablespaceDir(dir string, oid uint32) string {
	return filepath.Join(filepath.Dir(dir), "tablespaces", strconv.FormatUint(uint64(oid), 10))
}

// Backup takes a base backup of the server at from by the member's certificate: manifest with SHA-256 of every file, the WAL that
// makes it consistent included, all of it synced. The server may be a standby. progress as in Clone.
func Backup(ctx context.Context, c Config, from Source, b BackupSpec, progress func(done, total int64)) error {
	args := []string{"-D", b.Dir, "-d", c.libpq(from, pgconf.ReplicationRole, backupApplication, ""),
		"--checkpoint=fast", "--wal-method=stream", "--manifest-checksums=SHA256", "--no-password", "--progress", "--verbose", "--label=" + b.Label}
	if b.Plain {
		args = append(args, "--format=plain")
		for _, t := range b.Tablespaces {
			args = append(args, "--tablespace-mapping="+escaped(t.Path)+"="+escaped(TablespaceDir(b.Dir, t.OID)))
		}
	} else {
		args = append(args, "--format=tar", "--compress="+strconv.Itoa(b.Compress))
	}
	if _, err := c.runWatched(ctx, &progressWriter{report: progress}, "pg_basebackup", args...); err != nil {
		return fmt.Errorf("copy from %s: %w", net.JoinHostPort(from.Host, strconv.Itoa(from.Port)), err)
	}
	return nil
}

// escaped protects what separates the two halves of a tablespace mapping.
func escaped(path string) string { return strings.ReplaceAll(path, "=", `\=`) }

// Tablespaces asks a server where its tablespaces lie.
func Tablespaces(ctx context.Context, c Config, from Source) ([]Tablespace, error) {
	conn, err := c.connectSource(ctx, from)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	rows, err := conn.Query(ctx, "select oid, pg_tablespace_location(oid) from pg_tablespace where pg_tablespace_location(oid) <> '' order by oid")
	if err != nil {
		return nil, fmt.Errorf("ask for tablespaces: %w", err)
	}
	defer rows.Close()
	var out []Tablespace
	for rows.Next() {
		var t Tablespace
		if err := rows.Scan(&t.OID, &t.Path); err != nil {
			return nil, fmt.Errorf("ask for tablespaces: %w", err)
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

// VerifyBackup has pg_verifybackup compare a plain backup with its manifest, and read its WAL.
func VerifyBackup(ctx context.Context, c Config, dir string) error {
	_, err := c.run(ctx, "pg_verifybackup", "--exit-on-error", "--quiet", dir)
	return err
}

// VerifyWAL has pg_waldump read a range of WAL, whole.
func VerifyWAL(ctx context.Context, c Config, dir string, tl cluster.Timeline, from, to cluster.LSN) error {
	_, err := c.run(ctx, "pg_waldump", "--quiet", "--path="+dir, fmt.Sprintf("--timeline=%d", tl), "--start="+from.String(), "--end="+to.String())
	return err
}
