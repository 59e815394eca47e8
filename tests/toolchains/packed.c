/* SPDX-License-Identifier: GPL-2.0-or-later
 * A stand-in for a program packed by UPX, which not every distribution has: a static program that carries another
 * static one, puts it into anonymous memory and jumps to its start, as UPX's stub does.
 */
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

extern const unsigned char payload[];
asm(".section .rodata\n.balign 16\npayload: .incbin \"" PAYLOAD "\"\n.text");

int main(int argc, char **argv)
{
	const Elf64_Ehdr *head = (const void *)payload;
	const Elf64_Phdr *segment = (const void *)(payload + head->e_phoff);
	char **word = argv + argc + 1;
	(void)argc;
	for (int i = 0; i < head->e_phnum; i++, segment++) {
		if (segment->p_type != PT_LOAD)
			continue;
		unsigned long start = segment->p_vaddr & ~4095UL, end = (segment->p_vaddr + segment->p_memsz + 4095) & ~4095UL;
		mmap((void *)start, end - start, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		memcpy((void *)segment->p_vaddr, payload + segment->p_offset, segment->p_filesz);
		mprotect((void *)start, end - start, PROT_READ | (segment->p_flags & PF_W ? PROT_WRITE : 0) |
			 (segment->p_flags & PF_X ? PROT_EXEC : 0));
	}
	while (*word++)
		;
	for (Elf64_auxv_t *entry = (void *)word; entry->a_type != AT_NULL; entry++) {
		if (entry->a_type == AT_ENTRY)
			entry->a_un.a_val = head->e_entry;
	}
	asm volatile("mov %0, %%rsp\n\txor %%edx, %%edx\n\tjmp *%1" : : "r"((long *)argv - 1), "r"(head->e_entry) : "rdx", "memory");
	return 1;
}
