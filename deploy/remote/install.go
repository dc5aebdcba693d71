package remote

import (
	"context"
	"fmt"
	"os"
	"strings"

	"standfast/deploy"
	"standfast/deploy/bundle"
)

// installLog has what the package manager said. It writes there, and not to the connection: it goes on when that breaks.
const installLog = "/var/log/standfast-install.log"

// unpacked is where a bundle lies on a host while its packages are installed.
const unpacked = "/var/cache/standfast/bundle"

// Install asks apt or dnf, whichever is there. Of apt, packages at hand are taken first; then what was left half installed is mended, then
// what the mirrors have is looked at. An installation that a run before has begun is waited for by the package manager's own lock.
func (m *Machine) Install(ctx context.Context, p deploy.Packages) error {
	names := make([]string, len(p.Names))
	for i, n := range p.Names {
		names[i] = quote(n)
	}
	list := strings.Join(names, " ")
	script := fmt.Sprintf(installScript, installLog, fromRepositories(list, p.Fresh))
	if p.Bundle != nil {
		if err := m.unpack(ctx, p.Bundle); err != nil {
			return fmt.Errorf("bring the bundle there: %w", err)
		}
		script = fmt.Sprintf(installScript, installLog, fromBundle(list)) + "\nrm -r " + unpacked
	}
	if _, err := m.run(ctx, script); err != nil {
		return fmt.Errorf("install %s (see %s there): %w%s", strings.Join(p.Names, ", "), installLog, err, unreached(err, p))
	}
	return nil
}

// unreached names the way out where nothing can be fetched (apt's words, and dnf's).
func unreached(err error, p deploy.Packages) string {
	for _, said := range []string{"Unable to locate package", "Failed to fetch", "Unable to fetch", "no installation candidate", "Cannot download", "No match for argument"} {
		if p.Bundle == nil && strings.Contains(err.Error(), said) {
			return "; a host that reaches no mirror gets its packages from a bundle: standfast bundle --help"
		}
	}
	return ""
}

// installScript runs "get" with all that it says in the log, of which the end is shown when it fails.
const installScript = `export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
say() { tail -n 5 %[1]s >&2; exit 1; }
trap '' HUP PIPE
%[2]s
get >>%[1]s 2>&1 </dev/null || say`

// aptGet waits for others who install.
const aptGet = "apt-get -q -y -o DPkg::Lock::Timeout=300"

func fromRepositories(list string, fresh bool) string {
	apt := "{ once || { dpkg --configure -a && once; } || { " + aptGet + " update && once; }; }"
	if fresh {
		apt = "{ dpkg --configure -a && " + aptGet + " update && once; }"
	}
	return fmt.Sprintf(`if command -v apt-get >/dev/null; then
	once() { %s --no-install-recommends install %s; }
	get() { %s; }
elif command -v dnf >/dev/null; then
	get() { dnf -q -y --setopt=install_weak_deps=False install %[2]s; }
else
	echo "there is neither apt-get nor dnf" >&2; exit 1
fi`, aptGet, list, apt)
}

// fromBundle tells apt of no other repository than the unpacked bundle, and to take nothing off the host for it.
func fromBundle(list string) string {
	return fmt.Sprintf(`cd %[1]s
mkdir -p lists cache/archives/partial
echo "deb [trusted=yes] file:%[1]s/packages ./" >bundle.list
once() {
	%[2]s -o Dir::Etc::SourceList=%[1]s/bundle.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=%[1]s/lists \
		-o Dir::Cache=%[1]s/cache -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}
get() {
	once update --error-on=any && { once --no-remove --no-install-recommends install %[3]s || {
		dpkg --configure -a && once --no-remove --no-install-recommends install %[3]s; }; }
}`, unpacked, aptGet, list)
}

// unpack brings the packages of a bundle to the host, if they are not there from an attempt before, and finds them whole.
func (m *Machine) unpack(ctx context.Context, b *bundle.Bundle) error {
	whole := fmt.Sprintf("cd %s/%s && [ \"$(sha256sum <%s)\" = '%s  -' ] && sha256sum --quiet --strict -c SHA256SUMS", unpacked, bundle.Dir, "SHA256SUMS", b.Sum)
	if out, err := m.run(ctx, "if { "+whole+"; } >/dev/null 2>&1; then echo whole; fi"); err != nil || out == "whole" {
		return err
	}
	f, err := os.Open(b.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = m.shell.Run(ctx, fmt.Sprintf(`umask 022
command -v apt-get >/dev/null || { echo "bundles are for apt, which is not there" >&2; exit 1; }
rm -rf %[1]s
mkdir -p %[1]s
tar -x -f - -C %[1]s --no-same-owner %[2]s
{ %[3]s; } || { echo "it did not arrive whole" >&2; exit 1; }`, unpacked, bundle.Dir, whole), f)
	return err
}
