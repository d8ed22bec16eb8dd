// Base64 as streams, over the codec that tvm-ffi has: the text is converted whole, at Finish and at InitPosition.
#pragma once

#include <tvm/ffi/extra/base64.h>

#include <string>

#include "bytes_io.h"

namespace tvm::support {

class Base64OutStream : public Stream {
 public:
  using Stream::Read;
  using Stream::Write;

  explicit Base64OutStream(Stream* out) : out_(out) {}

  size_t Read(void*, size_t) final { return 0; }
  size_t Write(const void* from, size_t size) final {
    plain_.append(static_cast<const char*>(from), size);
    return size;
  }
  // Call once, after the last Write.
  void Finish() {
    ffi::String text = ffi::Base64Encode(ffi::Bytes(plain_));
    out_->Write(text.data(), text.size());
  }

 private:
  Stream* out_;
  std::string plain_;
};

class Base64InStream : public Stream {
 public:
  using Stream::Read;
  using Stream::Write;

  explicit Base64InStream(Stream* in) : in_(in) {}

  // Call once, before the first Read.
  void InitPosition() {
    std::string text;
    char block[4096];
    while (size_t size = in_->Read(block, sizeof(block))) text.append(block, size);
    plain_ = ffi::Base64Decode(ffi::String(text));
    reader_ = BytesInStream(plain_);
  }
  size_t Read(void* into, size_t size) final { return reader_.Read(into, size); }
  size_t Write(const void*, size_t) final { return 0; }

 private:
  Stream* in_;
  ffi::Bytes plain_;
  BytesInStream reader_{plain_};
};

}  // namespace tvm::support
