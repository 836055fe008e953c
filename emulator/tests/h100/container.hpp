// What the recording programs share: errors, device memory, and a file of named pieces: a line `NAME BYTES`, then the
// bytes, and so on.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

inline void check(cudaError_t status, char const* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

class Bytes {
 public:
  Bytes(std::size_t size, int value) : size_(size) {
    check(cudaMalloc(&data_, size), "cudaMalloc");
    check(cudaMemset(data_, value, size), "cudaMemset");
  }
  explicit Bytes(std::vector<std::uint8_t> const& host) : Bytes(host.size(), 0) {
    check(cudaMemcpy(data_, host.data(), size_, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  ~Bytes() { cudaFree(data_); }
  Bytes(Bytes const&) = delete;
  Bytes& operator=(Bytes const&) = delete;

  template <class T = std::uint8_t>
  T* data() const {
    return static_cast<T*>(data_);
  }

  std::vector<std::uint8_t> host() const {
    std::vector<std::uint8_t> host(size_);
    check(cudaMemcpy(host.data(), data_, size_, cudaMemcpyDeviceToHost), "cudaMemcpy");
    return host;
  }

 private:
  std::size_t size_;
  void* data_ = nullptr;
};

class Container {
 public:
  explicit Container(char const* path) : file_(path, std::ios::binary) {}

  void add(std::string const& name, std::vector<std::uint8_t> const& bytes) {
    file_ << name << ' ' << bytes.size() << '\n';
    file_.write(reinterpret_cast<char const*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file_) {
      throw std::runtime_error("cannot write " + name);
    }
  }

 private:
  std::ofstream file_;
};

// Bytes without a pattern that a wrong permutation could keep.
inline std::uint32_t mix(std::uint32_t value) {
  value = (value ^ (value >> 16)) * 0x7feb352du;
  value = (value ^ (value >> 15)) * 0x846ca68bu;
  return value ^ (value >> 16);
}

inline std::vector<std::uint8_t> noise(std::size_t size, std::uint32_t seed) {
  std::vector<std::uint8_t> bytes(size);
  for (std::size_t at = 0; at < size; ++at) {
    bytes[at] = static_cast<std::uint8_t>(mix(static_cast<std::uint32_t>(at) * 0x9e3779b9u + seed));
  }
  return bytes;
}
