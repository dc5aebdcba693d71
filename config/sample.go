package config

import _ "embed"

// Sample is the file that is shipped as an example: every key with its default and a word on what it is for.
//
//go:embed sample.yml
var Sample []byte
