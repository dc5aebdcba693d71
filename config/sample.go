package config

import _ "embed"

// Sample is the file that is shipped as an example: every key with its default and a word on what it is for.
//
//go:embed sample.yml
var Sample []byte

// DeploymentSample is a cluster.yml with every key that a member's file has not, its default or an example, and a word on it.
//
//go:embed cluster.sample.yml
var DeploymentSample []byte
