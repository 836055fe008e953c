// The operands in global memory, as CuTe's TMA atoms load them.
#pragma once

#include <cstdint>

#include "sm100/stock.hpp"

namespace nvfp4::sm100 {

// m, n, k, batch of the product: n counts columns of C.
struct ProductShape {
  int m, n, k, batch;

  template <class Weights, class ProblemShape>
  CUTLASS_HOST_DEVICE static ProductShape of(ProblemShape const& problem) {
    auto const [m, n, k, batch] = cute::append<4>(problem, 1);
    return {static_cast<int>(m), static_cast<int>(n) / Weights::kProblemNScale, static_cast<int>(k),
            static_cast<int>(batch)};
  }
};

// TMA atoms over codes (rows, k, batch) and over scales in the 128x4 layout. A tile that reaches beyond a tensor's end
// is filled with zeros: every code, and every atom of scales, of rows and k that do not exist.
//
// Only the types of the atoms are used here: the host encodes the tensor maps itself (operand_maps.hpp), since CuTe would
// ask the runtime for the driver's function and its version each time. A test holds the one against the other.
template <class Stock, class Weights>
struct TensorMaps {
  using ClusterShape = typename Stock::DispatchPolicy::ClusterShape;
  using MmaClusterLayout = decltype(cute::tiled_divide(cute::make_layout(ClusterShape{}),
                                                       cute::make_tile(typename Stock::TiledMma::AtomThrID{})));
  using ScalesClusterLayout = decltype(cute::tiled_divide(
      cute::make_layout(ClusterShape{}), cute::make_tile(typename Stock::TiledMMA_SF::AtomThrID{})));

  template <class Element>
  static auto code_tensor(void const* codes, int rows, int k, int batch) {
    auto const stride = cute::make_stride(std::int64_t{k}, cute::_1{}, std::int64_t{rows} * k);
    return cute::make_tensor(cute::recast_ptr<Element>(static_cast<Element const*>(codes)),
                             cute::make_layout(cute::make_shape(rows, k, batch), stride));
  }

  static auto scale_tensor(void const* scales, int rows, int k, int batch) {
    return cute::make_tensor(static_cast<typename Stock::ElementSF const*>(scales), scale_layout(rows, k, batch));
  }

  static auto a_codes(void const* codes, int rows, int k, int batch) {
    return cute::make_tma_atom_A_sm100<typename Stock::ElementA>(
        typename Stock::GmemTiledCopyA{}, code_tensor<typename Stock::ElementA>(codes, rows, k, batch),
        cute::take<0, 3>(typename Stock::SmemLayoutA{}), typename Stock::TileShape{}, typename Stock::TiledMma{},
        MmaClusterLayout{});
  }

  static auto a_scales(void const* scales, int rows, int k, int batch) {
    return cute::make_tma_atom_A_sm100<std::uint16_t>(
        typename Stock::GmemTiledCopySFA{}, scale_tensor(scales, rows, k, batch),
        cute::take<0, 3>(typename Stock::SmemLayoutSFA{}), typename Stock::TileShape{}, typename Stock::TiledMma{},
        MmaClusterLayout{});
  }

  static auto b_codes(void const* codes, int rows, int k, int batch) {
    return cute::make_tma_atom_B_sm100<typename Stock::ElementB>(
        typename Stock::GmemTiledCopyB{}, code_tensor<typename Stock::ElementB>(codes, rows, k, batch),
        cute::take<0, 3>(typename Weights::CodeSlots{}), typename Weights::CodesTile{}, typename Weights::CodesMma{},
        MmaClusterLayout{});
  }

  static auto b_scales(void const* scales, int rows, int k, int batch) {
    return cute::make_tma_atom_B_sm100<std::uint16_t>(
        typename Stock::GmemTiledCopySFB{}, scale_tensor(scales, rows, k, batch),
        cute::take<0, 3>(typename Weights::ScaleSlots{}), typename Weights::ScalesTile{},
        typename Weights::ScalesMma{}, ScalesClusterLayout{});
  }

  using TmaA = decltype(a_codes(nullptr, 0, 0, 0));
  using TmaSfa = decltype(a_scales(nullptr, 0, 0, 0));
  using TmaB = decltype(b_codes(nullptr, 0, 0, 0));
  using TmaSfb = decltype(b_scales(nullptr, 0, 0, 0));

  // What an atom knows beside its tensor map is known at compile time, so that only the map goes to the device.
  template <class Tma>
  static constexpr bool kKnownButForMap = cute::is_static<decltype(Tma{}.aux_params_.g_stride_)>::value;
  static_assert(kKnownButForMap<TmaA> && kKnownButForMap<TmaSfa> && kKnownButForMap<TmaB> && kKnownButForMap<TmaSfb>,
                "the device would need more of the atoms than their tensor maps");

  struct Params {
    cute::TmaDescriptor tma_a, tma_sfa;
    cute::TmaDescriptor tma_b[Weights::kMatrices], tma_sfb[Weights::kMatrices];
  };
};

}  // namespace nvfp4::sm100
