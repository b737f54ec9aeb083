// The copying warpgroup of decode_latent on an 8-bit cache: it reads elements into registers, makes bf16 of them and
// stores these where a bf16 cache would be copied to. The warpgroups that compute know nothing of it.
// Asking rows into L2 a block ahead made it 5 to 28% slower on an H200.
#pragma once
#include "decode_latent.cuh"
#include "fp8.cuh"

#ifdef HOPPER
namespace {

// A Job is a block of tokens, of which each of a warp's first 16 threads knows a page.
struct Job {
	int at, to, page;
	bool live, fresh;
};

// convert is produce. Eight lanes read a row, 16 elements each at a time, and of its warp's 16 rows a thread has ROWS
// under way: it asks for the next ones as soon as it has converted those that came.
template <int SLICES, int ROWS> __device__ __forceinline__ void convert(const DecodeArgs &p, const Scaled &scales, const Walk &walk, int g, int stages, uint32_t stage0, uint32_t full, uint32_t empty) {
	constexpr int L = SLICES * 64, C = (SLICES + 1) / 2;
	const Copier<SLICES> copier(p, g);
	const int lane = copier.lane, row = copier.warp * 16 + (lane >> 3), col = lane & 7;
	const bool upper = col & 4, last = L % 128 == 0 || col < 4, rope = col < p.R / 8;
	const char *k = (const char *)p.k + g * L, *kRope = (const char *)p.kRope;
	const uint8_t *kScale = scales.k + (g << p.pageShift);
	Blocks far(p, walk);
	auto look = [&](Job &j) {
		j.live = far.live;
		if (!far.live) return;
		j.at = far.at, j.to = far.x.to;
		const int token = copier.token(j.at);
		j.page = j.to > j.at ? *copier.entry(far.x.b, min(token, j.to - 1)) : 0;
		j.fresh = min(j.at + kBlockTokens, j.to) > far.x.length - p.T;
		if (!(lane & 23)) prefetchPages(p, far.x.b, token + 8 * kBlockTokens);
		far.step(p);
	};
	auto slotOf = [&](const Job &j, int i) -> uint32_t { // of row + 4i; past the end of the last token, which is masked
		const int token = max(min(j.at + row + i * 4, j.to - 1), 0);
		return __shfl_sync(~0u, j.page, i * 4 + (lane >> 3)) << p.pageShift | (token & ((1 << p.pageShift) - 1));
	};
	uint4 raw[ROWS][C], ropes[ROWS];
	int byte[ROWS];
	const char *kFrom = k + col * 16, *ropeFrom = kRope + col * 16;
	const uint32_t slotBytes = p.G * L, ropeBytes = p.R * 2;
	// Behind the last block it reads what is there: no branch stands between the conversions.
	auto read = [&](int i, int c, uint64_t slot) {
		if (c < C - 1 || last) raw[i][c] = __ldcg((const uint4 *)(kFrom + slot * slotBytes + c * 128));
	};
	auto readRest = [&](int i, uint64_t slot) {
		byte[i] = __ldcg(kScale + scaleAt(p, slot));
		if (rope) ropes[i] = __ldcg((const uint4 *)(ropeFrom + slot * ropeBytes));
	};
	Job job, soon;
	look(job);
	if (!job.live) return;
	look(soon);
	if (job.fresh) step_wait();
#pragma unroll
	for (int i = 0; i < ROWS; i++) {
		const uint32_t slot = slotOf(job, i);
#pragma unroll
		for (int c = 0; c < C; c++) read(i, c, slot);
		readRest(i, slot);
	}
	for (int stage = 0, phase = 1, from = 0; job.live;) { // from: the first of the warp's fours of rows at hand
		const int was = from;
		const bool none = job.to == job.at; // an empty request
		if ((from += ROWS) == 4) {
			from = 0;
			if (soon.live) job = soon;
			else job.live = false;
			look(soon);
			if (job.live && job.fresh) step_wait();
		}
		if (was == 0) barrierWait(empty + stage * 8, phase);
		const uint32_t dst = stage0 + stage * (SLICES + 1) * kSlice;
#pragma unroll
		for (int i = 0; i < ROWS; i++) {
			const int r = row + (was + i) * 4;
			const uint32_t place = dst + r * 128 + (col >> 2) * kSlice + ((((col & 3) * 2 + (upper ? 1 : 0)) ^ (r & 7)) << 4);
			const uint32_t scale = scaleOf(byte[i]), slot = slotOf(job, from + i);
#pragma unroll
			for (int c = 0; c < C; c++) {
				if (c < C - 1 || last) widen16(place + c * 2 * kSlice, (place ^ 16) + c * 2 * kSlice, raw[i][c], scale, upper);
				read(i, c, slot);
			}
			if (rope) storeShared(dst + SLICES * kSlice + r * 128 + ((col ^ (r & 7)) << 4), ropes[i]);
			readRest(i, slot);
			if (!none) continue;
			__syncwarp();
#pragma unroll 1
			for (int c = 0; c <= SLICES; c++) // weights of 0 are to meet no NaN
				if (c < SLICES || rope) storeShared(dst + c * kSlice + r * 128 + ((col ^ (r & 7)) << 4), uint4{0, 0, 0, 0});
		}
		if (was + ROWS < 4) continue;
		proxyFence();
		barrierArrive(full + stage * 8);
		if (++stage == stages) stage = 0, phase ^= 1;
	}
}

} // namespace
#endif
