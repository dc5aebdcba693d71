package deploy

import "testing"

// TestUnifiedRedacts what somebody has written into a file that everybody reads. A path to a secret is none.
func TestUnifiedRedacts(t *testing.T) {
	old := "a: 1\ntoken_file: /etc/standfast/token\nhooks: {on_role_change: \"curl -H 'Authorization: Bearer abc'\"}\n"
	text := "a: 1\ntoken_file: /etc/other/token\nhooks: {on_role_change: \"tell --token abc --now\"}\nurl: host=a password=abc\n"
	want := `@@ -1,3 +1,4 @@
 a: 1
-token_file: /etc/standfast/token
-hooks: {on_role_change: "curl -H 'Authorization: (redacted)
+token_file: /etc/other/token
+hooks: {on_role_change: "tell --token (redacted)
+url: host=a password=(redacted)`
	if got := unified([]byte(old), []byte(text)); got != want {
		t.Errorf("got\n%s", got)
	}
}
