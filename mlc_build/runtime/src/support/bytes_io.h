// Streams over bytes in memory: reading from a borrowed range, appending to a borrowed string.
#pragma once

#include <tvm/ffi/string.h>
#include <tvm/support/io.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace tvm::support {

class BytesInStream : public Stream {
 public:
  using Stream::Read;
  using Stream::Write;

  // The bytes must outlive the stream.
  explicit BytesInStream(const std::string& bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}
  explicit BytesInStream(const ffi::Bytes& bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  size_t Read(void* into, size_t size) final {
    size = std::min(size, static_cast<size_t>(end_ - at_));
    if (size != 0) std::memcpy(into, at_, size);
    at_ += size;
    return size;
  }
  size_t Write(const void*, size_t) final { return 0; }

 private:
  const char* at_;
  const char* end_;
};

class BytesOutStream : public Stream {
 public:
  using Stream::Read;
  using Stream::Write;

  explicit BytesOutStream(std::string* out) : out_(out) {}

  size_t Read(void*, size_t) final { return 0; }
  size_t Write(const void* from, size_t size) final {
    out_->append(static_cast<const char*>(from), size);
    return size;
  }

 private:
  std::string* out_;
};

}  // namespace tvm::support
