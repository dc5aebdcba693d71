//go:build e2e

package system

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"standfast/test/browser"
)

// TestPage watches a failover in a real browser, on the page of a member that has no part in it, then switches back by two clicks, and has
// a third member's PostgreSQL restarted by way of the one whose page it is.
func TestPage(t *testing.T) {
	t.Parallel()
	b := browser.Start(t)
	s := begin(t)
	first, watched := s.primary, s.standby()
	at := func(scheme string, port int) string {
		return scheme + "://" + net.JoinHostPort(watched.Address, strconv.Itoa(port)) + "/ui"
	}
	b.Open(at("http", s.r.Ports().Health))
	b.Says("h1", first.Name+" is the primary")
	b.Await("streams are drawn", "document.querySelectorAll('#wires .on').length === 2")
	entries := browser.Eval[int](b, "document.querySelectorAll('#history > li').length")

	must(t, first.KillPostmaster())
	b.Await("another is the primary", fmt.Sprintf("/is the primary$/.test(document.querySelector('h1').textContent) && !document.querySelector('h1').textContent.startsWith(%q)", first.Name))
	b.Await("the failover is in the history, with its steps", fmt.Sprintf("document.querySelectorAll('#history > li').length > %d && document.querySelector('#history .kind').textContent === 'failover' && document.querySelectorAll('#history .bar span').length > 2", min(entries, 19)))
	second, _ := s.heal()
	b.Says("h1", second.Name+" is the primary")
	b.Await("all is well", "document.getElementById('verdict').dataset.level === 'good'")
	b.Quiet()

	token, err := os.ReadFile(filepath.Join(watched.Dir, "token"))
	must(t, err)
	b.Open(at("https", s.r.Ports().Admin))
	b.Press("Sign in…")
	b.Await("the token is asked for", "document.getElementById('token')")
	b.Run("type the token", chromedp.SendKeys(chromedp.CSS("#token"), strings.TrimSpace(string(token))))
	b.Press("Sign in")
	b.Press("Make primary: " + first.Name)
	b.Says(".foretold", "nothing is lost")
	b.Press("Hand over to " + first.Name)
	b.Says(".outcome", "Done in")
	b.Press("Close")
	if now, _ := s.heal(); now != first {
		t.Errorf("%s reigns after the switchover to %s", now.Name, first.Name)
	}
	b.Says("h1", first.Name+" is the primary")

	third := s.r.Others(first, watched)[0]
	before := third.Postmaster()
	b.Press("Restart PostgreSQL on " + third.Name)
	b.Says(".foretold", "restarts")
	b.Press("Restart " + third.Name)
	b.Says(".outcome", "Done in")
	b.Press("Close")
	if after := third.Postmaster(); after == before {
		t.Errorf("the postmaster of %s is process %d as before", third.Name, after)
	}
	b.Quiet()
	s.end()
}
