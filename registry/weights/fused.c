/* out = base + weight * (up @ down), summed in float32, in one pass: the base is read once, the result written once, past the caches.
 *
 * A gemm that adds to its output needs the base copied there first, and reads it again. Here four rows by four vectors are summed up
 * in registers while the base's own lines are still on their way from memory. Compiled by fused.py for AVX-512 or AVX2.
 */
#include <immintrin.h>
#include <pthread.h>

#ifdef __AVX512F__
typedef __m512 Vector;
enum { LANES = 16, ACROSS = 4 };
#define LOAD _mm512_loadu_ps
#define SPLAT _mm512_set1_ps
#define FMA _mm512_fmadd_ps
#else
typedef __m256 Vector;
enum { LANES = 8, ACROSS = 2 };
#define LOAD _mm256_loadu_ps
#define SPLAT _mm256_set1_ps
#define FMA _mm256_fmadd_ps
#endif

/* How the base and the result are stored, either half only with AVX-512: widened as they are read, rounded to the nearest, ties to even. */
#if defined BFLOAT16
typedef unsigned short Stored;
static inline Vector widened(const Stored *from)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16));
}
static inline void stream(Stored *to, Vector values)
{
    __m512i bits = _mm512_castps_si512(values), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    /* rounding up carries out of the largest NaNs */
    bits = _mm512_mask_mov_epi32(bits, _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0));
    _mm256_stream_si256((__m256i *)to, _mm512_cvtepi32_epi16(bits));
}
#elif defined FLOAT16
typedef unsigned short Stored;
static inline Vector widened(const Stored *from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from)); }
static inline void stream(Stored *to, Vector values)
{
    _mm256_stream_si256((__m256i *)to, _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#else
typedef float Stored;
#define widened LOAD
#ifdef __AVX512F__
#define stream _mm512_stream_ps
#else
#define stream _mm256_stream_ps
#endif
#endif

enum { DOWN = 4, CACHED = 32 * 1024 / sizeof(float) }; /* rows of a tile; values of `down` that the first cache holds beside the rest */

typedef struct {
    const Stored *base;
    const float *up, *down;
    Stored *out;
    long rows, columns, rank;
    float weight;
} Patch;

/* `tall` and `wide` are constants where it is called; `ahead`: the tile of the base whose turn is next, which is fetched already. */
static inline __attribute__((always_inline)) void tile(const Patch *p, long row, long column, long ahead, const int tall, const int wide)
{
    const Stored *base = p->base + row * p->columns + column;
    const float *up = p->up + row * p->rank, *down = p->down + column;
    Stored *out = p->out + row * p->columns + column;
    Vector sum[DOWN][ACROSS];
    for (int i = 0; i < tall; i++)
        for (int j = 0; j < wide; j++) {
            __builtin_prefetch(base + (ahead + i) * p->columns + j * LANES, 0, 2);
            sum[i][j] = SPLAT(0);
        }
    for (long k = 0; k < p->rank; k++) {
        Vector inner[ACROSS];
        for (int j = 0; j < wide; j++)
            inner[j] = LOAD(down + k * p->columns + j * LANES);
        for (int i = 0; i < tall; i++)
            for (int j = 0; j < wide; j++)
                sum[i][j] = FMA(SPLAT(up[i * p->rank + k]), inner[j], sum[i][j]);
    }
    for (int i = 0; i < tall; i++)
        for (int j = 0; j < wide; j++)
            stream(out + i * p->columns + j * LANES,
                   FMA(SPLAT(p->weight), sum[i][j], widened(base + i * p->columns + j * LANES)));
}

static void *rows_of(void *task)
{
    const Patch *p = task;
    long step = CACHED / p->rank / (ACROSS * LANES) * (ACROSS * LANES);
    if (step == 0)
        step = ACROSS * LANES;
    for (long left = 0; left < p->columns; left += step) {
        long right = left + step < p->columns ? left + step : p->columns;
        long row = 0;
        for (; row + DOWN <= p->rows; row += DOWN) {
            long ahead = row + 2 * DOWN <= p->rows ? DOWN : 0, column = left;
            for (; column + ACROSS * LANES <= right; column += ACROSS * LANES)
                tile(p, row, column, ahead, DOWN, ACROSS);
            for (; column < right; column += LANES)
                tile(p, row, column, ahead, DOWN, 1);
        }
        for (; row < p->rows; row++)
            for (long column = left; column < right; column += LANES)
                tile(p, row, column, 0, 1, 1);
    }
    _mm_sfence(); /* streamed stores are not ordered with what announces them */
    return 0;
}

enum { MOST = 64 };

/* All contiguous: base and out [rows, columns], columns a multiple of 16, out at 64 bytes; up [rows, rank], down [rank, columns]. */
void patch(const Stored *base, const float *up, const float *down, Stored *out, long rows, long columns, long rank, float weight, long threads)
{
    pthread_t others[MOST];
    Patch parts[MOST];
    long count = threads < 1 ? 1 : threads > MOST ? MOST : threads, share = (rows / count + DOWN) / DOWN * DOWN, started = 0;
    Patch rest = {base, up, down, out, rows, columns, rank, weight};
    while (rest.rows > share && started < count - 1) {
        Patch *part = &parts[started];
        *part = rest;
        part->rows = share;
        if (pthread_create(&others[started], 0, rows_of, part))
            break; /* no more threads to be had: this one does it all */
        started++;
        rest.base += share * columns, rest.out += share * columns, rest.up += share * rank, rest.rows -= share;
    }
    rows_of(&rest);
    while (started > 0)
        pthread_join(others[--started], 0);
}
