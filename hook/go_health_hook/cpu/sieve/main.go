// SPDX-License-Identifier: GPL-2.0-or-later

// Counts primes in parallel, then measures bursts of short tasks. Prints one line of key=value.
package main

import (
	"fmt"
	"runtime"
	"sort"
	"sync"
	"time"
)

const (
	limit   = 200_000_000
	segment = 1 << 20
	bursts  = 250
	tasks   = 32
	steps   = 60_000 // of one short task: about 0.1 ms
)

// small returns the primes below n.
func small(n int) []int {
	composite := make([]bool, n)
	var primes []int
	for i := 2; i < n; i++ {
		if composite[i] {
			continue
		}
		primes = append(primes, i)
		for j := i * i; j < n; j += i {
			composite[j] = true
		}
	}
	return primes
}

// count returns how many primes are in [low, low+segment).
func count(low int, primes []int, composite []bool) (n int) {
	clear := composite[:segment]
	for i := range clear {
		clear[i] = false
	}
	for _, p := range primes {
		if p*p >= low+segment {
			break
		}
		start := (low + p - 1) / p * p
		if start < p*p {
			start = p * p
		}
		for j := start - low; j < segment; j += p {
			clear[j] = true
		}
	}
	for i := range clear {
		if !clear[i] && low+i >= 2 && low+i < limit {
			n++
		}
	}
	return n
}

func sieve() int {
	primes := small(15_000)
	lows := make(chan int)
	counts := make(chan int)
	for w := 0; w < runtime.GOMAXPROCS(0); w++ {
		go func() {
			composite := make([]bool, segment)
			n := 0
			for low := range lows {
				n += count(low, primes, composite)
			}
			counts <- n
		}()
	}
	for low := 0; low < limit; low += segment {
		lows <- low
	}
	close(lows)
	sum := 0
	for w := 0; w < runtime.GOMAXPROCS(0); w++ {
		sum += <-counts
	}
	return sum
}

var sink uint64

// burst starts short tasks at once and returns how long after the start each was done.
func burst() []time.Duration {
	done := make([]time.Duration, tasks)
	var group sync.WaitGroup
	start := time.Now()
	for i := range done {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			x := uint64(i)
			for j := 0; j < steps; j++ {
				x = x*6364136223846793005 + 1442695040888963407
			}
			if x == 0 {
				sink = x
			}
			done[i] = time.Since(start)
		}(i)
	}
	group.Wait()
	return done
}

func main() {
	start := time.Now()
	primes := sieve()
	work := time.Since(start)
	var all []time.Duration
	for i := 0; i < bursts; i++ {
		all = append(all, burst()...)
		time.Sleep(200 * time.Microsecond)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	fmt.Printf("primes=%d sieve_us=%d p50_us=%d p99_us=%d gomaxprocs=%d\n", primes, work.Microseconds(),
		all[len(all)/2].Microseconds(), all[len(all)*99/100].Microseconds(), runtime.GOMAXPROCS(0))
}
