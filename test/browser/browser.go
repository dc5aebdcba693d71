// Package browser drives a real Chromium for tests of the web page. It remembers whatever the browser complained of: errors and
// warnings on its console, exceptions, files that could not be loaded, violations of the page's policy.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// patience bounds whatever a test waits for in the page. On a busy machine Chromium itself takes seconds to start.
const patience = 60 * time.Second

// Browser is one Chromium with one tab.
type Browser struct {
	t   testing.TB
	ctx context.Context

	heard     chan string
	listening sync.WaitGroup

	mu         sync.Mutex
	complaints []string
}

// Start starts a Chromium with an empty profile, which ends with the test. Where there is none the test is skipped.
func Start(t testing.TB) *Browser {
	t.Helper()
	path, err := find()
	if err != nil {
		t.Skip("the page is not tried in a browser: no Chromium here (scripts/install-deps.sh test installs Debian's)")
	}
	profile, err := os.MkdirTemp("", "standfast-browser-")
	if err != nil {
		t.Fatal(err)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("disable-background-timer-throttling", true), chromedp.Flag("hide-scrollbars", true), chromedp.Flag("no-proxy-server", true),
		chromedp.Env("HOME="+profile), chromedp.WSURLReadTimeout(patience),
	)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &Browser{t: t, ctx: ctx, heard: make(chan string, 1)}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until it has ended; that it had to be killed is no fault of the page
		cancel()
		stop()
		b.listening.Wait()
		_ = os.RemoveAll(profile)
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	messages := chromedp.Console(ctx)
	b.listening.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			b.hear(m)
		}
	})
	return b
}

func find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// mark stands before what the browser is made to say to itself, to know that all before it has been heard.
const mark = "standfast test: "

func (b *Browser) hear(m chromedp.ConsoleMessage) {
	if text, ok := strings.CutPrefix(m.Text, mark); ok {
		b.heard <- text
		return
	}
	switch m.Type {
	case chromedp.ConsoleWarning, chromedp.ConsoleError, chromedp.ConsoleException, "assert":
		b.mu.Lock()
		defer b.mu.Unlock()
		b.complaints = append(b.complaints, fmt.Sprintf("%s: %s (%s)", m.Type, m.Text, m.URL))
	}
}

// Complaints returns what the browser complained of since the last call.
func (b *Browser) Complaints() []string {
	b.t.Helper()
	b.Run("say a word", chromedp.Evaluate[chromedp.Void](fmt.Sprintf("console.log(%q)", mark)))
	select {
	case <-b.heard:
	case <-time.After(patience):
		b.t.Fatal("the browser's console is silent")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.complaints
	b.complaints = nil
	return out
}

// Quiet fails the test if the browser has complained of anything.
func (b *Browser) Quiet() {
	b.t.Helper()
	for _, c := range b.Complaints() {
		b.t.Errorf("the browser complains: %s", c)
	}
}

// Run carries out actions, within bounds.
func (b *Browser) Run(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\n%s", what, err, b.text())
	}
}

// text is what can be read on the page, for whoever looks for the reason of a failure.
func (b *Browser) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		return "(the page can't be read: " + err.Error() + ")"
	}
	return "the page says:\n" + text
}

// Open goes to an address.
func (b *Browser) Open(url string) {
	b.t.Helper()
	b.Run("open "+url, chromedp.Navigate(url))
}

// Await waits until an expression of JavaScript is true in the page. It asks from outside, for the page's policy lets nothing be
// evaluated within.
func (b *Browser) Await(what, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("wait until %s: %v, %v\n%s", what, ctx.Err(), err, b.text())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Says waits until the element's text has the given one in it.
func (b *Browser) Says(selector, text string) {
	b.t.Helper()
	b.Await(fmt.Sprintf("%s says %q", selector, text), fmt.Sprintf("document.querySelector(%q)?.textContent.includes(%q)", selector, text))
}

// Eval returns the value of an expression.
func Eval[T any](b *Browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

// Press clicks the visible button or link of that label, or text if it has none.
func (b *Browser) Press(label string) {
	b.t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll('button, a')].find((e) => (e.getAttribute('aria-label') || e.textContent) === %q && !e.disabled && e.checkVisibility())`, label)
	b.Await("there is a button "+label, find)
	b.Run("press "+label, chromedp.Evaluate[chromedp.Void]("("+find+").click()"))
}

// Window sets the size of the page in CSS pixels, how many of the screen's each has, and the colours that the reader prefers.
func (b *Browser) Window(width, height int64, scale float64, dark bool) {
	b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.Run("set the window", chromedp.EmulateViewport(width, height, chromedp.EmulateScale(scale)), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	}))
}

// Picture returns the window as PNG; whole, all of the page.
func (b *Browser) Picture(whole bool) []byte {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	r, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &whole})
	if err != nil {
		b.t.Fatalf("take a picture: %v", err)
	}
	return r.Data
}

// Axe is the path of axe-core, the checker of accessibility, or "" and why it is not there.
func Axe() (path, why string) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err.Error()
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", "not within the source"
		}
	}
	path = filepath.Join(dir, "bin", "axe.min.js")
	if _, err := os.Stat(path); err != nil {
		return "", "axe-core is not there (scripts/install-deps.sh test gets it with npm): " + err.Error()
	}
	return path, ""
}

// Accessible fails the test for whatever axe-core finds wrong with the page as it is now.
func (b *Browser) Accessible(axe string) {
	b.t.Helper()
	script, err := os.ReadFile(axe)
	if err != nil {
		b.t.Fatal(err)
	}
	const ask = `axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ': ' + n.html + ' ' + n.failureSummary)))`
	b.Run("load axe-core", chromedp.Evaluate[chromedp.Void](string(script)+";0"))
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	found, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](ask, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("ask axe-core: %v", err)
	}
	for _, f := range found {
		b.t.Errorf("axe-core: %s", f)
	}
}
