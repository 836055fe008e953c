// Evaluates all OPERATIONS on all inputs: triples of numbers. Result of operation i for triple j at i*count + j.

#define NUMBER(name, ...) NUMBER_##name,
enum { OPERATIONS(NUMBER) HOW_MANY };
#undef NUMBER

BOTH u64 evaluate(int operation, u64 a, u64 b, u64 c) {
    switch (operation) {
#define CASE(name, ...) \
    case NUMBER_##name: \
        return (u64)(__VA_ARGS__);
        OPERATIONS(CASE)
#undef CASE
    }
    return 0;
}

#ifdef __CUDACC__
// A thread block for each operation.
extern "C" __global__ void run(const u64* in, u64* out, u32 count) {
    for (u32 j = threadIdx.x; j < count; j += blockDim.x) {
        out[(u64)blockIdx.x * count + j] =
            evaluate(blockIdx.x, in[3 * j], in[3 * j + 1], in[3 * j + 2]);
    }
}
#else
// First all names, a line each, then an empty line, then the results.
int main(int, char** arguments) {
    FILE* from = fopen(arguments[1], "rb");
    FILE* to = fopen(arguments[2], "wb");
    std::vector<u64> triples;
    u64 number;
    while (fread(&number, 8, 1, from) == 1) triples.push_back(number);
#define NAME(name, ...) fprintf(to, "%s\n", #name);
    OPERATIONS(NAME)
#undef NAME
    fprintf(to, "\n");
    for (int operation = 0; operation < HOW_MANY; operation++) {
        for (size_t j = 0; j + 2 < triples.size(); j += 3) {
            u64 result = evaluate(operation, triples[j], triples[j + 1], triples[j + 2]);
            fwrite(&result, 8, 1, to);
        }
    }
    return fclose(to);
}
#endif
