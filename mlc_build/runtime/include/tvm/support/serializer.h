// The wire layout of the types that occur in a compiled library, for a little-endian target (WebAssembly is one).
//
// Numbers and enums are their bytes. A data type is code, bits, lanes (1, 1, 2 bytes); a device is type and id (4 and 4).
// Strings, lists and maps are a 64-bit count and their members, a map's as key then value. The compiler, which is
// the other end, writes exactly this; a mismatch shows as "Invalid ..." when a library is loaded.
#pragma once

#include <dlpack/dlpack.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/endian.h>
#include <tvm/ffi/string.h>
#include <tvm/support/io.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tvm::support {

// Types whose bytes in memory are their bytes in the stream.
template <typename T>
inline constexpr bool kPlain = std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_same_v<T, DLDataType> ||
                               std::is_same_v<T, DLDevice>;
static_assert(sizeof(DLDataType) == 4 && sizeof(DLDevice) == 8, "these two are written as they lie in memory");

template <typename T>
struct Serializer<T, std::enable_if_t<kPlain<T>>> {
  static constexpr bool enabled = true;
  static void Write(Stream* out, const T& value) { out->Write(&value, sizeof(T)); }
  static bool Read(Stream* in, T* value) { return in->Read(value, sizeof(T)) == sizeof(T); }
};

// What all counted things share: a count, then each member by `one`.
template <typename Members>
void WriteCounted(Stream* out, const Members& members) {
  out->Write<uint64_t>(members.size());
  for (const auto& member : members) out->Write(member);
}

template <typename One>
bool ReadCounted(Stream* in, One one) {
  uint64_t count = 0;
  if (!in->Read(&count)) return false;
  while (count-- > 0) {
    if (!one()) return false;
  }
  return true;
}

template <>
struct Serializer<std::string> {
  static constexpr bool enabled = true;
  static void Write(Stream* out, const std::string& text) {
    out->Write<uint64_t>(text.size());
    out->Write(text.data(), text.size());
  }
  static bool Read(Stream* in, std::string* text) {
    uint64_t size = 0;
    if (!in->Read(&size)) return false;
    text->resize(static_cast<size_t>(size));
    return in->Read(text->data(), text->size()) == text->size();
  }
};

template <>
struct Serializer<ffi::String> {
  static constexpr bool enabled = true;
  static void Write(Stream* out, const ffi::String& text) { out->Write(std::string(text)); }
  static bool Read(Stream* in, ffi::String* text) {
    std::string plain;
    bool whole = in->Read(&plain);
    *text = ffi::String(std::move(plain));
    return whole;
  }
};

template <typename A, typename B>
struct Serializer<std::pair<A, B>> {
  static constexpr bool enabled = true;
  static void Write(Stream* out, const std::pair<A, B>& both) {
    out->Write(both.first);
    out->Write(both.second);
  }
  static bool Read(Stream* in, std::pair<A, B>* both) { return in->Read(&both->first) && in->Read(&both->second); }
};

template <typename T>
struct Serializer<std::vector<T>> {
  static constexpr bool enabled = true;
  static void Write(Stream* out, const std::vector<T>& members) { WriteCounted(out, members); }
  static bool Read(Stream* in, std::vector<T>* members) {
    uint64_t count = 0;
    if (!in->Read(&count)) return false;
    members->resize(static_cast<size_t>(count));
    if constexpr (kPlain<T>) {  // the bytecode is one long vector of words
      size_t bytes = members->size() * sizeof(T);
      return in->Read(members->data(), bytes) == bytes;
    } else {
      return in->ReadArray(members->data(), members->size());
    }
  }
};

template <typename T>
struct Serializer<ffi::Array<T>> {
  static constexpr bool enabled = true;
  static void Write(Stream* out, const ffi::Array<T>& members) { WriteCounted(out, members); }
  static bool Read(Stream* in, ffi::Array<T>* members) {
    *members = ffi::Array<T>();
    return ReadCounted(in, [&] {
      T member;
      if (!in->Read(&member)) return false;
      members->push_back(std::move(member));
      return true;
    });
  }
};

template <typename K, typename V>
struct Serializer<std::unordered_map<K, V>> {
  static constexpr bool enabled = true;
  static void Write(Stream* out, const std::unordered_map<K, V>& map) {
    out->Write<uint64_t>(map.size());
    for (const auto& [key, value] : map) {
      out->Write(key);
      out->Write(value);
    }
  }
  static bool Read(Stream* in, std::unordered_map<K, V>* map) {
    map->clear();
    return ReadCounted(in, [&] {
      std::pair<K, V> entry;
      return in->Read(&entry) && map->insert(std::move(entry)).second;
    });
  }
};

template <typename K, typename V>
struct Serializer<ffi::Map<K, V>> {
  static constexpr bool enabled = true;
  static void Write(Stream* out, const ffi::Map<K, V>& map) {
    out->Write<uint64_t>(map.size());
    for (const auto& [key, value] : map) {
      out->Write(key);
      out->Write(value);
    }
  }
  static bool Read(Stream* in, ffi::Map<K, V>* map) {
    *map = ffi::Map<K, V>();
    return ReadCounted(in, [&] {
      K key;
      V value;
      if (!in->Read(&key) || !in->Read(&value)) return false;
      map->Set(std::move(key), std::move(value));
      return true;
    });
  }
};

}  // namespace tvm::support
