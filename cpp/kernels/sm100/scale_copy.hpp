// tcgen05.cp of scale factors from shared to tensor memory, replicated to the four lane quarters as the MMA wants them.
#pragma once

#include "cute/tensor.hpp"
#include "cutlass/cutlass.h"

namespace nvfp4::sm100 {

template <class TiledCopy, class Source, class Destination>
struct ScaleCopy {
  TiledCopy tiled_copy;
  Source source;            // descriptors (copy, ..., slot)
  Destination destination;

  // One lane issues it. MMAs that follow see the scales (PTX ISA: tcgen05.cp and .mma of one thread stay in order).
  CUTLASS_DEVICE void operator()(int slot) const {
    using namespace cute;
    auto to = destination;
    copy(tiled_copy, source(_, _, _, _, slot), to);
  }
};

// smem: (MMA, MMA_MN, MMA_K, slot), tmem: (MMA, MMA_MN, MMA_K).
template <int kSms, class Smem, class Tmem>
CUTLASS_DEVICE auto make_scale_copy(Smem const& smem, Tmem const& tmem) {
  using namespace cute;
  using Op = conditional_t<kSms == 2, SM100_UTCCP_4x32dp128bit_2cta, SM100_UTCCP_4x32dp128bit_1cta>;
  // Without the mode of stride 0 in which 16 codes have one scale.
  Tensor from = make_tensor(smem.data(), filter_zeros(smem.layout()));
  Tensor to = make_tensor(tmem.data(), filter_zeros(tmem.layout()));
  auto const tiled_copy = make_utccp_copy(Op{}, to);
  auto const slice = tiled_copy.get_slice(0);
  auto const source = get_utccp_smem_desc_tensor<Op>(slice.partition_S(from));
  auto const destination = slice.partition_D(to);
  return ScaleCopy<remove_cvref_t<decltype(tiled_copy)>, remove_cvref_t<decltype(source)>,
                   remove_cvref_t<decltype(destination)>>{tiled_copy, source, destination};
}

}  // namespace nvfp4::sm100
