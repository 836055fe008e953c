// Device memory that a kernel reads or writes: what must hold of its address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ios>

#include "support/error.hpp"

namespace nvfp4::detail {

struct Region {
  char const* name;
  void const* address;
  std::size_t bytes;  // from the first to the last
  std::size_t alignment;
  // Of rows that others may lie between: from one to the next, and what is theirs. 0: all is one.
  std::size_t row_stride = 0, row_bytes = 0;
};

inline void require_region(Region const& region) {
  if (region.bytes == 0) {
    return;  // an empty buffer has no address
  }
  std::uintptr_t const address = reinterpret_cast<std::uintptr_t>(region.address);
  if (address == 0) {
    fail_argument(region.name, ": the address is null");
  }
  if (address % region.alignment != 0) {
    fail_argument(region.name, ": address 0x", std::hex, address, std::dec, " is not a multiple of ", region.alignment);
  }
  if (region.bytes > UINTPTR_MAX - address) {
    fail_argument(region.name, ": ", region.bytes, " bytes from address 0x", std::hex, address,
                  " end beyond the address space");
  }
}

inline void require_apart(Region const& a, Region const& b) {
  if (a.bytes == 0 || b.bytes == 0) {
    return;
  }
  std::uintptr_t const first = reinterpret_cast<std::uintptr_t>(a.address);
  std::uintptr_t const second = reinterpret_cast<std::uintptr_t>(b.address);
  if (first >= second + b.bytes || second >= first + a.bytes) {
    return;
  }
  // Rows of one between the rows of the other, as columns of the same matrix.
  if (a.row_stride != 0 && a.row_stride == b.row_stride) {
    std::size_t const stride = a.row_stride;
    std::size_t const from = second >= first ? (second - first) % stride : (stride - (first - second) % stride) % stride;
    if (from >= a.row_bytes && stride - from >= b.row_bytes) {
      return;
    }
  }
  fail_argument(a.name, " overlaps ", b.name);
}

}  // namespace nvfp4::detail
