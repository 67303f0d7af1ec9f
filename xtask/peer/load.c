// Loads a BPF object, attaches all its programs, says so, and stays until it is killed.

#include <stdio.h>
#include <unistd.h>
#include <bpf/libbpf.h>

int main(int argc, char **argv)
{
	struct bpf_object *object;
	struct bpf_program *program;

	if (argc != 2) {
		fprintf(stderr, "usage: %s OBJECT\n", argv[0]);
		return 2;
	}
	object = bpf_object__open(argv[1]);
	if (!object || bpf_object__load(object)) {
		perror(argv[1]);
		return 1;
	}
	bpf_object__for_each_program(program, object) {
		if (!bpf_program__attach(program)) {
			perror(bpf_program__name(program));
			return 1;
		}
	}
	puts("observing");
	fflush(stdout);
	pause();
	return 0;
}
