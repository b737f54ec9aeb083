// The copying warpgroup of decode_mma.cu on an 8-bit cache: it reads elements into registers, makes bf16 of them and
// stores these where a bf16 cache would be copied to. The warpgroups that compute know nothing of it. Tied rows are in
// L2 by the time they are read, 128 tokens after they were asked for.
#pragma once
#include "decode_mma.cuh"
#include "fp8.cuh"

#ifdef HOPPER
namespace {

// A Run is up to 128 tokens that lie in the same request, each lane knowing one of their slots.
struct Run {
	uint32_t slot;
	int left; // tokens, none of an empty request
	bool live, fresh;
};

// convertTiles is copyTiles for rows of up to C · 128 elements. Eight lanes read a row, 16 elements each at a time, and
// a thread has FLIGHT such reads of each tensor under way, or C: it asks for the next one as soon as it has converted what came.
template <int DV, Kind KIND, int C, int FLIGHT>
__device__ __forceinline__ void convertTiles(const DecodeArgs &p, const Scaled &scales, Tiles &now, const Place &place, int R, int S, int kStride, int rStride,
	int ropeAt, int stageBytes, uint32_t full, uint32_t empty, uint32_t stage0) {
	constexpr int OF = KIND == KV ? 2 : 1, GROUPS = C == 1 ? FLIGHT : C == 2 ? FLIGHT / 2 : 1; // 16 rows of a tile at a time
	const int tid = place.tid, lane = place.lane, g0 = place.g0, TT = place.TT, width = place.HC * DV;
	const int row = (tid >> 3) & 15, col = tid & 7;
	const int other = col & 4 ? -16 : 16; // from the half that is stored first to the other one
	const bool upper = col & 4, last = DV == 128 || (C - 1) * 128 + col * 16 < width, rope = KIND == TIED && col < R / 8;
	const int own = lane >> 2 << 4 | (row & 12) | (lane & 3);
	const char *k = (const char *)p.k + g0 * DV, *v = (const char *)p.v + g0 * DV, *kRope = (const char *)p.kRope;
	const uint32_t slotBytes = p.G * DV, ropeBytes = R * 2;
	const uint32_t mine = stage0 + row * kStride + col * 32 + (upper ? 16 : 0), mineRope = stage0 + ropeAt + row * rStride + col * 16;
	auto pageOf = [&]() -> int {
		return now.live && now.x.to > now.x.from ? p.pages[(long)now.x.b * p.maxPages + (min(now.at + own, now.x.to - 1) >> p.pageShift)] : 0;
	};
	int page = pageOf();
	auto take = [&](Run &r) { // the tokens at hand, whose pages have come
		r.live = now.live;
		if (!now.live) return;
		r.slot = page << p.pageShift | (min(now.at + own, now.x.to - 1) & ((1 << p.pageShift) - 1));
		r.left = now.x.to > now.x.from ? min(now.x.to - now.at, kChunk) : 0;
		r.fresh = now.at + r.left > now.x.length - p.T;
		if (!(own & 7)) prefetchPages(p, now.x.b, now.at + 3 * kChunk + own);
		now.step(p, kChunk);
		page = pageOf();
		if (r.left == 0) return;
		if constexpr (KIND == TIED) { // keys and values apart have more reads under way, and lose 4% by it
#pragma unroll 1
			for (int i = 0; i < width; i += 128) prefetchL2(k + (uint64_t)r.slot * slotBytes + i);
			prefetchL2(kRope + (uint64_t)r.slot * ropeBytes);
		}
	};
	Run run, soon;
	take(soon);
	int left = 0, step = 0, first = 0, groups = 0; // of the tile that is read: its tokens and those behind, its place in the run, the groups at hand
	auto turn = [&]() { // to the next tile
		left -= TT, step += TT / 16, first = 0;
		bool live = left > 0;
		if (!live && soon.live) {
			live = true;
			run = soon;
			take(soon);
			left = run.left, step = 0;
			if (run.fresh) step_wait();
		}
		groups = live && left > 0 ? TT / 16 : 0;
		return live;
	};
	uint4 raw[GROUPS][OF][C], ropes[GROUPS];
	int byte[GROUPS][OF][C];
	uint32_t head[C]; // the scales of its tokens, among those of a page
#pragma unroll
	for (int c = 0; c < C; c++) head[c] = (g0 + (c * 128 + col * 16) / DV) << p.pageShift;
	const char *kFrom = k + col * 16, *vFrom = v + col * 16;
	// Past the end of a run it reads what is there: no branch stands between the conversions, and nobody looks at it.
	auto read = [&](int j, int of, int c, uint64_t at) {
		if (c == C - 1 && !last) return;
		raw[j][of][c] = __ldcg((const uint4 *)((of ? vFrom : kFrom) + at * slotBytes + c * 128));
		byte[j][of][c] = __ldcg((of ? scales.v : scales.k) + (scaleAt(p, at) + head[c]));
	};
	bool more = turn();
	if (!more) return;
#pragma unroll
	for (int j = 0; j < GROUPS; j++) {
		const uint64_t at = __shfl_sync(~0u, run.slot, (lane >> 3) + 4 * (step + j));
#pragma unroll
		for (int of = 0; of < OF; of++)
#pragma unroll
			for (int c = 0; c < C; c++) read(j, of, c, at);
		if (rope) ropes[j] = __ldcg((const uint4 *)(kRope + at * ropeBytes + col * 16));
	}
	for (int stage = 0, phase = 1; more;) {
		const int was = first, had = groups;
		if ((first += GROUPS) >= groups) more = turn();
		if (was == 0) waitBarrier(empty + 8 * stage, phase);
		const uint32_t dst = mine + stage * stageBytes + was * 16 * kStride, ropeDst = mineRope + stage * stageBytes + was * 16 * rStride;
#pragma unroll
		for (int j = 0; j < GROUPS; j++) {
			const uint64_t at = __shfl_sync(~0u, run.slot, (lane >> 3) + 4 * (step + first + j));
			const bool here = j == 0 || was + j < had; // of an empty request nobody reads the tile
#pragma unroll
			for (int of = 0; of < OF; of++)
#pragma unroll
				for (int c = 0; c < C; c++) {
					if (here && (c < C - 1 || last)) widen16(dst + j * 16 * kStride + of * TT * kStride + c * 256, dst + j * 16 * kStride + of * TT * kStride + c * 256 + other, raw[j][of][c], scaleOf(byte[j][of][c]), upper);
					read(j, of, c, at);
				}
			if (rope) {
				if (here) storeShared(ropeDst + j * 16 * rStride, ropes[j]);
				ropes[j] = __ldcg((const uint4 *)(kRope + at * ropeBytes + col * 16));
			}
		}
		if (was + GROUPS < had) continue;
		arriveBarrier(full + 8 * stage);
		if (++stage == S) stage = 0, phase ^= 1;
	}
}

} // namespace
#endif
