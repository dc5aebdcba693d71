package redirect

import (
	"net/netip"
	"strings"
	"testing"
)

// TestOtherVersion: an IPv6 address can't be redirected to a server that listens on IPv4. Nothing is written for it.
func TestOtherVersion(t *testing.T) {
	var tab Table
	err := tab.Set([]Rule{{netip.MustParseAddrPort("[fd78::50]:5000"), netip.MustParseAddrPort("10.78.0.1:5432")}})
	if err == nil || !strings.Contains(err.Error(), "redirect [fd78::50]:5000 to 10.78.0.1:5432: PostgreSQL listens on an address of the other IP version") {
		t.Error(err)
	}
	if tab.there || tab.rules != nil {
		t.Errorf("%+v", &tab)
	}
}
