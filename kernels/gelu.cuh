// The tanh form of GELU, g/2·(1 + tanh u) with u = √(2/π)·(g + 0.044715·g³), which is g·σ(2u).
#pragma once

constexpr float GELU_ROOT = 0.7978845608028654f, GELU_CUBE = 0.044715f;

// σ(2u)
__device__ inline float gelu_gate(float g) { return 1.f / (1.f + __expf(-2.f * GELU_ROOT * (g + GELU_CUBE * g * g * g))); }
