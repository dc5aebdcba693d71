package deploy

import (
	"strings"
	"testing"
)

// TestVerifier compares with what PostgreSQL 15 itself made of a password and this salt.
func TestVerifier(t *testing.T) {
	got, err := verifierWith("pencil", []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$"; !strings.HasPrefix(got, want) || len(got) != len(want)+44+1+44 {
		t.Errorf("%s", got)
	}
	if _, err := verifier("müde"); err == nil {
		t.Error("a password that SASLprep could change is taken")
	}
}
