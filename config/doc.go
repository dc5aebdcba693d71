// Package config reads the two documents that a cluster is configured by, along one path for both: defaults, then a
// strict decode of YAML (an unknown key is an error that names line, column and the key that was probably meant), then
// settings from flags and the environment, then Validate, which reports everything that is wrong at once.
//
// Node is the file of one member, by default /etc/standfast/standfast.yml: who it is and where its things lie. Cluster
// is what all members have agreed on; it lives in the store and is changed with "standfast config edit".
package config
