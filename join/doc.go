// Package join is how a host becomes a member where no ssh leads from one host to another.
//
// On a member an invitation is made (Dir.Invite): a file there, and a token that an administrator carries to the new host. The
// token names the member that is to be, the invitation, a secret, and the pin of the cluster's certificate authority. The new host
// makes a key, and asks any way it reaches that member (Ask): it sends nothing before the server has proven to hold a certificate of
// the pinned authority. The member (Desk) keeps only the secret's hash, compares it in constant time, answers one request with
// it and no second, and none after its time.
package join
