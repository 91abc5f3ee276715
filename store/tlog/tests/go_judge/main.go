// A verifier over golang.org/x/mod/sumdb, which has no code in common with the crate under test. It reads a
// case (JSON) on standard input, checks everything in it, and answers with a case of its own making (JSON on
// standard output) for the crate to check. Anything wrong is told on standard error, and the exit code is 1.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index int64       `json:"index"`
	Size  int64       `json:"size"`
	Proof []tlog.Hash `json:"proof"`
}

type consistency struct {
	Old   int64       `json:"old"`
	New   int64       `json:"new"`
	Proof []tlog.Hash `json:"proof"`
}

type logCase struct {
	Origin      string        `json:"origin"`
	Vkey        string        `json:"vkey"`
	Skey        string        `json:"skey"`
	Records     [][]byte      `json:"records"`
	Checkpoints []string      `json:"checkpoints"` // one for every size from 0
	Forged      []string      `json:"forged"`      // notes that must not open
	Inclusions  []inclusion   `json:"inclusions"`
	Consistency []consistency `json:"consistencies"`
}

func main() {
	var given logCase
	check(json.NewDecoder(os.Stdin).Decode(&given), "the case is not JSON")
	roots := judge(given)
	check(json.NewEncoder(os.Stdout).Encode(answer(given, roots)), "writing the answer")
}

// judge opens every checkpoint and runs every proof against the roots that they state.
func judge(given logCase) []tlog.Hash {
	verifier, err := note.NewVerifier(given.Vkey)
	check(err, "vkey")
	known := note.VerifierList(verifier)
	var roots []tlog.Hash
	for size, text := range given.Checkpoints {
		opened, err := note.Open([]byte(text), known)
		check(err, "checkpoint %d", size)
		lines := strings.Split(opened.Text, "\n")
		if len(lines) < 4 || lines[0] != given.Origin || lines[1] != strconv.Itoa(size) {
			fail("checkpoint %d says %q", size, opened.Text)
		}
		root, err := tlog.ParseHash(lines[2])
		check(err, "root of checkpoint %d", size)
		roots = append(roots, root)
	}
	for number, text := range given.Forged {
		if _, err := note.Open([]byte(text), known); err == nil {
			fail("forged note %d was opened", number)
		}
	}
	for _, p := range given.Inclusions {
		leaf := tlog.RecordHash(given.Records[p.Index])
		check(tlog.CheckRecord(p.Proof, p.Size, roots[p.Size], p.Index, leaf), "leaf %d of %d", p.Index, p.Size)
	}
	for _, p := range given.Consistency {
		check(tlog.CheckTree(p.Proof, p.New, roots[p.New], p.Old, roots[p.Old]), "%d to %d", p.Old, p.New)
	}
	return roots
}

// answer builds the same log again with Go's own code, compares the roots, and proves everything anew.
func answer(given logCase, roots []tlog.Hash) logCase {
	signer, err := note.NewSigner(given.Skey)
	check(err, "skey")
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, index := range indexes {
			hashes = append(hashes, stored[index])
		}
		return hashes, nil
	})
	made := logCase{Origin: given.Origin, Vkey: given.Vkey, Records: given.Records}
	for size := int64(0); size <= int64(len(given.Records)); size++ {
		if size > 0 {
			hashes, err := tlog.StoredHashes(size-1, given.Records[size-1], reader)
			check(err, "storing record %d", size-1)
			stored = append(stored, hashes...)
		}
		// Not every version of x/mod knows the root of the tree without leaves.
		root := tlog.Hash(sha256.Sum256(nil))
		if size > 0 {
			root, err = tlog.TreeHash(size, reader)
			check(err, "tree of %d", size)
		}
		if root != roots[size] {
			fail("the root of %d leaves is %s, the checkpoint says %s", size, root, roots[size])
		}
		text := fmt.Sprintf("%s\n%d\n%s\n", given.Origin, size, base64.StdEncoding.EncodeToString(root[:]))
		signed, err := note.Sign(&note.Note{Text: text}, signer)
		check(err, "signing %d", size)
		if !bytes.Equal(signed, []byte(given.Checkpoints[size])) {
			fail("checkpoint %d is spelled otherwise: %q", size, signed)
		}
		made.Checkpoints = append(made.Checkpoints, string(signed))
		for index := int64(0); index < size; index++ {
			proof, err := tlog.ProveRecord(size, index, reader)
			check(err, "proving leaf %d of %d", index, size)
			made.Inclusions = append(made.Inclusions, inclusion{index, size, proof})
		}
		for old := int64(1); old <= size; old++ {
			proof, err := tlog.ProveTree(size, old, reader)
			check(err, "proving %d to %d", old, size)
			made.Consistency = append(made.Consistency, consistency{old, size, proof})
		}
	}
	return made
}

func check(err error, format string, args ...interface{}) {
	if err != nil {
		fail("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}
