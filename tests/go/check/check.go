// Package check is what the programs of the Go clients share: checks that say what became of them,
// and what is written (see tests/src/checks.rs). A program's only argument is the broker's address.
package check

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"
)

// Each is the number of records of each codec.
const Each = 100

// Deadline ends each wait of a check.
const Deadline = 60 * time.Second

// Codecs that every client of Go has.
var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// Broker is its address.
var Broker = os.Args[1]

// Base is within any retention, and not the time at which anything is appended.
var Base = time.Now().Add(-time.Hour).Truncate(time.Millisecond)

var (
	input  = bufio.NewReader(os.Stdin)
	failed bool
)

// Header of a record.
type Header struct {
	Name, Value string
}

// Letter is what is written: some without key, some without value, one header name twice.
type Letter struct {
	Key, Value []byte
	Headers    []Header
	Time       time.Time
}

// LetterOf is the letter of that number.
func LetterOf(number int) Letter {
	letter := Letter{
		Headers: []Header{{Name: "n", Value: fmt.Sprint(number)}, {Name: "n", Value: "again"}},
		Time:    Base.Add(time.Duration(number) * time.Millisecond),
	}
	if number%10 != 1 {
		letter.Key = fmt.Appendf(nil, "key %d", number%7)
	}
	if number%10 != 2 {
		letter.Value = fmt.Appendf(nil, "letter %d %s", number, strings.Repeat("x", number%50))
	}
	return letter
}

// Run tells what became of a check.
func Run(name string, body func()) {
	defer func() {
		if wrong := recover(); wrong != nil {
			failed = true
			text := strings.Join(strings.Fields(fmt.Sprint(wrong)), " ")
			fmt.Printf("FAILED %s: %s\n", name, text)
			return
		}
		fmt.Println("ok " + name)
	}()
	body()
}

// None stops the check at an error.
func None(err error) {
	if err != nil {
		panic(err)
	}
}

// One is the value of a call that must not fail.
func One[T any](value T, err error) T {
	None(err)
	return value
}

// Equal stops the check where two values differ.
func Equal(expected, got any) {
	if !reflect.DeepEqual(expected, got) {
		panic(fmt.Sprintf("expected %v, got %v", expected, got))
	}
}

// That stops the check unless it holds.
func That(holds bool, what ...any) {
	if !holds {
		panic(fmt.Sprint(what...))
	}
}

// Until waits for a condition; each look may itself wait a little.
func Until(what string, condition func() bool) {
	end := time.Now().Add(Deadline)
	for !condition() {
		That(time.Now().Before(end), "in vain: ", what)
		time.Sleep(10 * time.Millisecond)
	}
}

// Restart returns when the broker has been killed and serves again.
func Restart() {
	fmt.Println("restart")
	_, err := input.ReadString('\n')
	None(err)
}

// Finish ends the program.
func Finish() {
	if failed {
		os.Exit(1)
	}
	os.Exit(0)
}
