package web_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"standfast/test/browser"
)

// sizes are what the page is looked at in.
var sizes = []struct {
	name          string
	width, height int64
	dark          bool
}{{"desktop", 1280, 900, false}, {"desktop-dark", 1280, 900, true}, {"phone", 360, 740, false}, {"phone-dark", 360, 740, true}}

// TestPage shows recorded statuses: each says in one line what is so, nothing is wider than the window, the browser has nothing to complain of
// and neither has axe-core.
func TestPage(t *testing.T) {
	b := browser.Start(t)
	axe, why := browser.Axe()
	if why != "" {
		t.Log("accessibility is not tried: " + why)
	}
	for _, c := range []struct {
		name, self, title, level string
		warnings                 int
		says                     string // somewhere
	}{
		{"healthy", "pg1", "pg1 is the primary", "good", 0, "each commit is on 2 of 3 hosts"},
		{"paused", "pg1", "pg1 is the primary", "warn", 1, "automatic failover is paused"},
		{"standby-down", "pg1", "pg1 is the primary", "warn", 1, "pg3 is not heard from"},
		{"electing", "pg2", "A primary is being chosen", "bad", 3, "waiting for reports"},
		{"no-majority", "pg2", "No writes", "bad", 4, "does not hear a majority"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := cluster(t, c.name)[c.self]
			t.Cleanup(func() { b.Open("about:blank") }) // before its member goes away
			b.Window(sizes[0].width, sizes[0].height, 1, false)
			b.Open("http://" + m.plain + "/ui")
			b.Says("h1", c.title)
			b.Says("#live", "as "+c.self+" sees it")
			if got := browser.Eval[string](b, "document.getElementById('verdict').dataset.level"); got != c.level {
				t.Errorf("level %s, want %s", got, c.level)
			}
			if got := browser.Eval[int](b, "document.querySelectorAll('#warnings li').length"); got != c.warnings {
				t.Errorf("%d warnings, want %d: %s", got, c.warnings, browser.Eval[string](b, "document.getElementById('warnings').textContent"))
			}
			b.Await("it is said", fmt.Sprintf("document.body.textContent.toLowerCase().includes(%q.toLowerCase())", c.says))
			for _, s := range sizes {
				b.Window(s.width, s.height, 1, s.dark)
				if over := browser.Eval[int](b, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
					t.Errorf("%s: the page is %d pixels wider than the window", s.name, over)
				}
				if axe != "" && (c.name == "healthy" || s.name == "desktop" || s.name == "phone-dark") {
					b.Accessible(axe)
				}
				snap(t, b, c.name+"-"+s.name, true)
			}
			b.Quiet()
		})
	}
}

// snap keeps a picture where somebody wants to look at them.
func snap(t *testing.T, b *browser.Browser, name string, whole bool) {
	t.Helper()
	dir := os.Getenv("STANDFAST_PICTURES")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), b.Picture(whole), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestStale: a page whose member goes away says so by its own clock, offers what an operator can do, and is right again by itself.
func TestStale(t *testing.T) {
	b := browser.Start(t)
	all := cluster(t, "healthy")
	pg1 := all["pg1"]
	b.Open("http://" + pg1.plain + "/ui")
	b.Says("#live", "Live, as pg1 sees it")

	pg1.freeze()
	b.Says("#away", "Not to be believed")
	b.Says("#away", "pg2")
	pg1.show(as(recorded(t, "healthy"), "pg1", all))
	b.Says("#live", "Live, as pg1 sees it")
	b.Quiet()

	for _, m := range all {
		m.stop()
	}
	b.Says("#live", "Stale: last heard")
	b.Says("#away", "pg1 does not answer")
	b.Await("the title says so", "document.title.startsWith('Stale')")
	b.Says("h1", "Not known now; last: pg1 is the primary")
	links := browser.Eval[string](b, "[...document.querySelectorAll('#away a')].map((a) => a.href).join(' ')")
	if want := "http://" + all["pg2"].plain + "/ui"; !strings.Contains(links, want) {
		t.Errorf("links %s, want %s among them", links, want)
	}
	if axe, _ := browser.Axe(); axe != "" {
		b.Accessible(axe)
	}
	snap(t, b, "stale", true)
	refusedOnly(t, b)

	pg1.start(t)
	b.Says("#live", "Live, as pg1 sees it")
	if away := browser.Eval[bool](b, "document.getElementById('away').hidden"); !away {
		t.Error("the page is right again and still says that its member is away")
	}
	refusedOnly(t, b)
}

// refusedOnly: that a host that is down can't be reached is all that the browser may complain of.
func refusedOnly(t *testing.T, b *browser.Browser) {
	t.Helper()
	for _, c := range b.Complaints() {
		if !strings.Contains(c, "net::ERR_") {
			t.Errorf("the browser complains: %s", c)
		}
	}
}

// TestAnotherMember: the page goes on with what another member tells, and comes back to its own.
func TestAnotherMember(t *testing.T) {
	b := browser.Start(t)
	all := cluster(t, "healthy")
	b.Open("http://" + all["pg1"].plain + "/ui")
	b.Says("#live", "as pg1 sees it")
	all["pg1"].stop()
	all["pg2"].show(as(recorded(t, "standby-down"), "pg2", all))
	all["pg3"].show(as(recorded(t, "standby-down"), "pg3", all))
	b.Says("#warnings", "pg3 is not heard from")
	b.Says("#away", "The member of this page does not answer")
	snap(t, b, "elsewhere", true)
	all["pg1"].start(t)
	b.Says("#live", "as pg1 sees it")
	b.Await("nothing is in the way", "document.getElementById('away').hidden")
	refusedOnly(t, b)
}

// TestChanges signs in and asks for changes. The page without TLS has none.
func TestChanges(t *testing.T) {
	b := browser.Start(t)
	all := cluster(t, "healthy")
	pg1 := all["pg1"]
	b.Open("http://" + pg1.plain + "/ui")
	b.Says("#account", "Sign in to make changes")
	if n := browser.Eval[int](b, "document.querySelectorAll('.card button').length"); n > 0 {
		t.Errorf("%d buttons where nothing may be changed", n)
	}
	if link := browser.Eval[string](b, "document.querySelector('#account a').href"); link != "https://"+pg1.secure+"/ui" {
		t.Errorf("the link to sign in leads to %s", link)
	}

	b.Open("https://" + pg1.secure + "/ui")
	b.Says("#live", "as pg1 sees it")
	b.Press("Sign in…")
	typeInto(b, "#token", "wrong-token")
	b.Press("Sign in")
	b.Says(".wrong", "That is not this cluster’s token")
	for _, c := range b.Complaints() {
		if !strings.Contains(c, "status of 401") {
			t.Errorf("the browser complains: %s", c)
		}
	}
	typeInto(b, "#token", "right-token")
	b.Press("Sign in")
	b.Says("#account", "Signed in as operator")

	t.Run("switchover", func(t *testing.T) {
		pg1.hold = make(chan struct{})
		b.Press("Make primary: pg2")
		b.Says(".foretold", "pg1 would hand over to pg2: nothing is lost.")
		if pg1.done() != "" {
			t.Fatalf("asked before it was confirmed: %s", pg1.done())
		}
		accessible(b)
		snap(t, b, "confirm", false)
		b.Press("Hand over to pg2")
		b.Says(".progress", "switchover of term 5 asked for")
		if text := browser.Eval[string](b, "document.querySelector('.outcome').textContent"); text != "" {
			t.Errorf("it goes on, and the page says %q", text)
		}
		close(pg1.hold)
		b.Says(".outcome", "Done in")
		b.Says(".progress", "pg2 is the primary of term 6")
		b.Press("Close")
		if want := "switchover from pg1 to pg2"; pg1.done() != want {
			t.Errorf("asked for %q, want %q", pg1.done(), want)
		}
	})
	t.Run("refused", func(t *testing.T) {
		b.Press("Restart PostgreSQL on pg1")
		b.Says(".foretold", "Sessions that read from pg1 would end.")
		b.Press("Restart pg1")
		b.Says(".outcome", "pg1 is busy: ask again when it follows")
		b.Press("Close")
		for _, c := range b.Complaints() {
			if !strings.Contains(c, "status of 409") {
				t.Errorf("the browser complains: %s", c)
			}
		}
	})
	t.Run("pause", func(t *testing.T) {
		b.Press("Pause failover…")
		b.Says(".foretold", "off for 2h0m0s")
		b.Run("choose", chromedp.Evaluate[chromedp.Void](`(() => {const s = document.getElementById('pause-for'); s.value = '30m'; s.dispatchEvent(new Event('change', {bubbles: true}))})()`))
		b.Says(".foretold", "off for 30m0s")
		b.Press("Cancel")
		if strings.Contains(pg1.done(), "pause") {
			t.Error("paused, though it was cancelled")
		}
	})
	t.Run("signed in after loading anew", func(t *testing.T) {
		b.Open("https://" + pg1.secure + "/ui")
		b.Says("#account", "Signed in as operator")
		b.Await("there are buttons", "document.querySelectorAll('.card button').length > 0")
		accessible(b)
		snap(t, b, "signed-in", true)
	})
	t.Run("the keyboard's place is kept", func(t *testing.T) {
		b.Run("focus", chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll('.card button')].find((e) => e.getAttribute('aria-label') === "Make primary: pg3").focus()`))
		st := as(recorded(t, "paused"), "pg1", all)
		pg1.show(st)
		b.Says("#warnings", "failover is paused")
		if at := browser.Eval[string](b, "document.activeElement.getAttribute('aria-label') || document.activeElement.tagName"); at != "Make primary: pg3" {
			t.Errorf("the focus went to %s", at)
		}
	})
	t.Run("a stale page changes nothing", func(t *testing.T) {
		pg1.freeze()
		b.Await("the buttons are gone", "document.querySelectorAll('.card button').length === 0")
		pg1.show(as(recorded(t, "healthy"), "pg1", all))
		b.Await("they are there again", "document.querySelectorAll('.card button').length > 0")
	})
	b.Press("Sign out")
	b.Await("the token is forgotten", "sessionStorage.length === 0 && document.querySelectorAll('.card button').length === 0")
	b.Quiet()
}

func accessible(b *browser.Browser) {
	if axe, _ := browser.Axe(); axe != "" {
		b.Accessible(axe)
	}
}

func typeInto(b *browser.Browser, selector, text string) {
	b.Await("there is "+selector, fmt.Sprintf("document.querySelector(%q)", selector))
	b.Run("type", chromedp.Evaluate[chromedp.Void](fmt.Sprintf("document.querySelector(%q).value = ''", selector)), chromedp.SendKeys(chromedp.CSS(selector), text))
}

// TestPolicyIsKept: what the page is forbidden to do, it can't.
func TestPolicyIsKept(t *testing.T) {
	b := browser.Start(t)
	m := cluster(t, "healthy")["pg1"]
	b.Open("http://" + m.plain + "/ui")
	b.Says("h1", "pg1 is the primary")
	b.Quiet()
	b.Run("try to style inline", chromedp.Evaluate[chromedp.Void](`document.body.setAttribute('style', 'color: red')`))
	caught := browser.Eval[string](b, `(() => { try { document.body.innerHTML = '<b>x</b>'; return 'taken' } catch (e) { return 'refused' } })()`)
	if caught != "refused" {
		t.Errorf("text that is parsed as HTML was %s", caught)
	}
	deadline := time.Now().Add(10 * time.Second)
	for ; ; time.Sleep(50 * time.Millisecond) {
		if got := strings.Join(b.Complaints(), "\n"); strings.Contains(got, "Content Security Policy") {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("the browser let it pass: %s", got)
		}
	}
}
