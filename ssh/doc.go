// Package ssh runs scripts on other hosts as root over SSH: keys from an agent or from files, hosts known by their keys only, sudo
// where the login is not root's. Nothing secret is ever part of a command line: what is secret goes in through standard input.
//
// Files are sent through standard input too, not by SFTP, so that they are written by root at once, with the mode that they are to
// have, and never lie where the login's user could read them.
package ssh
