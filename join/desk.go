package join

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Path is where a Desk answers; the method is POST.
const Path = "/join"

// Question is what a host that wants to join sends, with "Authorization: Bearer ID.SECRET".
type Question struct {
	CSR string `json:"csr,omitempty"` // PEM; "": only tell me who I would be, and keep the invitation
}

// Answer makes a member of a host. To a question without a CSR only Cluster, Member and Address are told.
type Answer struct {
	Cluster     string `json:"cluster"`
	Member      string `json:"member"`
	Address     string `json:"address"`
	File        string `json:"file,omitempty"`        // the member's configuration, YAML
	Authorities string `json:"authorities,omitempty"` // PEM
	Certificate string `json:"certificate,omitempty"` // PEM
	Secret      string `json:"secret,omitempty"`      // authenticates heartbeats
	Token       string `json:"token,omitempty"`       // what changes are made with
}

// Desk answers hosts that have been invited. It serves one path.
type Desk struct {
	Cluster string
	Dir     Dir
	Log     *slog.Logger

	// Admit completes an answer, whose Cluster, Member, Address and File are there, by certificates and secrets.
	Admit func(ctx context.Context, csr []byte, a *Answer) error

	mu     sync.Mutex
	wrongs map[string]*rate.Limiter // by the remote host
}

// Of tokens that are not good each remote host may show wrongBurst at once, and one more in wrongEvery; then it is not listened to.
// Nobody guesses 128 bits: this keeps a broken script from filling the log.
const (
	wrongBurst  = 5
	wrongEvery  = 12 * time.Second
	wrongHosts  = 1024     // remembered; beyond them all are forgotten
	maxQuestion = 16 << 10 // bytes
)

// ServeHTTP answers one question. Refusals are logged with the remote host, never with the token.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr) // always host:port
	log := d.Log.With("remote", r.RemoteAddr)
	if d.limiter(host).Tokens() < 1 {
		refuse(w, http.StatusTooManyRequests, "too many tokens that were not good have come from this host; wait a minute")
		return
	}
	id, secret, ok := bearer(r)
	inv, err := d.Dir.find(id, secret, time.Now())
	if !ok || errors.Is(err, ErrRefused) {
		d.limiter(host).Allow()
		log.Warn("a host that wants to join was refused: its token is not good")
		refuse(w, http.StatusUnauthorized, ErrRefused.Error())
		return
	}
	var q Question
	if err == nil {
		err = json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion)).Decode(&q)
	}
	if err != nil {
		log.Warn("a host that wants to join could not be answered", "error", err)
		refuse(w, http.StatusBadRequest, "the question can't be answered: "+err.Error())
		return
	}
	a, err := d.answer(r.Context(), inv, q)
	if errors.Is(err, ErrRefused) {
		refuse(w, http.StatusUnauthorized, err.Error())
		return
	}
	if err != nil {
		log.Error("admit a host", "member", inv.Member, "error", err)
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	if q.CSR != "" {
		log.Info("a host has joined", "member", inv.Member, "invitation", inv.ID)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // a client that is gone needs another invitation
}

func (d *Desk) answer(ctx context.Context, inv Invitation, q Question) (Answer, error) {
	a := Answer{Cluster: d.Cluster, Member: inv.Member, Address: inv.Address}
	if q.CSR == "" {
		return a, nil
	}
	a.File = inv.File
	if err := d.Admit(ctx, []byte(q.CSR), &a); err != nil {
		return Answer{}, err // nothing has left this host: the invitation is good for another try
	}
	return a, d.Dir.redeem(inv.ID) // before anything is told
}

func (d *Desk) limiter(host string) *rate.Limiter {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.wrongs[host]
	if l == nil {
		if d.wrongs == nil || len(d.wrongs) >= wrongHosts {
			d.wrongs = map[string]*rate.Limiter{}
		}
		l = rate.NewLimiter(rate.Every(wrongEvery), wrongBurst)
		d.wrongs[host] = l
	}
	return l
}

func bearer(r *http.Request) (id, secret string, ok bool) {
	scheme, word, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	id, secret, ok = strings.Cut(word, ".")
	return id, secret, ok && strings.EqualFold(scheme, "Bearer")
}

func refuse(w http.ResponseWriter, code int, text string) { http.Error(w, text, code) }
