// The byte stream that the runtime's own readers and writers are written against.
//
// The apache-tvm wheel ships the runtime's sources without this header. This is HYBR's own, and holds only what
// those sources call: two virtual functions, and typed shorthands that defer to Serializer<T> (serializer.h).
#pragma once

#include <cstddef>

namespace tvm::support {

class Stream;

// How a T is laid out in a stream: `Write(Stream*, const T&)` and `bool Read(Stream*, T*)`.
template <typename T, typename = void>
struct Serializer;

class Stream {
 public:
  virtual ~Stream() = default;

  // Both return how many bytes were moved; fewer than asked means the end of the data.
  virtual size_t Read(void* into, size_t size) = 0;
  virtual size_t Write(const void* from, size_t size) = 0;

  template <typename T>
  void Write(const T& value) {
    Serializer<T>::Write(this, value);
  }

  template <typename T>
  bool Read(T* value) {
    return Serializer<T>::Read(this, value);
  }

  template <typename T>
  void WriteArray(const T* values, size_t count) {
    for (size_t i = 0; i < count; ++i) Write<T>(values[i]);
  }

  template <typename T>
  bool ReadArray(T* values, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      if (!Read<T>(values + i)) return false;
    }
    return true;
  }
};

}  // namespace tvm::support
