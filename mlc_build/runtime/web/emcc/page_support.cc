// What the page's side (tvmjs) needs besides the runtime's C interface: memory to pass arguments in, functions
// that live in JavaScript, and the text of the last error.
//
// Written by HYBR in place of the wheel's tvmjs_support.cc, which brings the remote-procedure-call server with it; a page
// that answers chats never serves one.

#include <tvm/ffi/c_api.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/function.h>

#include <cstdint>
#include <string>

#define PAGE_EXPORT extern "C" __attribute__((used, visibility("default")))

// The page provides these two (`env` imports).
extern "C" int TVMFFIWasmSafeCall(void* self, const TVMFFIAny* args, int32_t num_args, TVMFFIAny* result);
extern "C" void TVMFFIWasmFunctionDeleter(void* self);

// Arguments hold 64-bit members: whole words of eight bytes keep them aligned.
PAGE_EXPORT void* TVMWasmAllocSpace(int size) { return new int64_t[(static_cast<size_t>(size) + 7) / 8]; }

PAGE_EXPORT void TVMWasmFreeSpace(void* space) { delete[] static_cast<int64_t*>(space); }

PAGE_EXPORT int TVMFFIWasmFunctionCreate(void* self, TVMFFIObjectHandle* out) {
  return TVMFFIFunctionCreate(self, TVMFFIWasmSafeCall, TVMFFIWasmFunctionDeleter, out);
}

// Valid until the next call; the page copies it at once.
PAGE_EXPORT const char* TVMFFIWasmGetLastError() {
  static std::string message;
  message = tvm::ffi::details::MoveFromSafeCallRaised().what();
  return message.c_str();
}
