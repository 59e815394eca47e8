// SPDX-License-Identifier: GPL-2.0-or-later

// Package answer is compiled to see that the compiler compiles. It imports nothing, so it needs no build cache, and it
// uses nothing newer than Go 1: an old toolchain is not a broken one.
package answer

type pair struct{ a, b int }

func (p pair) swap() pair { return pair{p.b, p.a} }

// Answer exercises closures, maps, slices and methods a little.
func Answer(n int) int {
	seen := map[int]string{}
	sum := func(xs []int) (s int) {
		for i, x := range xs {
			seen[i] = "x"
			s += x
		}
		return
	}
	p := pair{n, len(seen)}.swap()
	return sum([]int{p.a, p.b}) + 42
}
