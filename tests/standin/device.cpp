// A simulated GPU in main memory, for a torch that was built without CUDA: it uses the CPU's kernels with a GPU's rules.
//
// Tensors on it report the device "cuda". Like a GPU it rejects operations on tensors of two devices and views as NumPy
// arrays. New memory is filled with NaN. It cannot show streams, speed, or the rounding of GPU kernels.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <set>

namespace {

using at::IntArrayRef;
using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::IValue;
using c10::Stream;
using std::optional;

constexpr auto kGpu = c10::DeviceType::CUDA;
constexpr auto kKey = c10::DispatchKey::CUDA;
constexpr DeviceIndex kGpus = 8;  // GPUs of a node
constexpr int kNothing = 0xFF;    // a float or bfloat16 of such bytes is NaN
constexpr size_t kLine = 64;      // alignment in bytes

thread_local DeviceIndex current = 0;
std::atomic<int64_t> live_now{0}, live_peak{0};

// ---- The device, its one stream, and its memory ----

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = kGpu;
  Guard() = default;
  explicit Guard(c10::DeviceType) {}
  c10::DeviceType type() const override { return kGpu; }
  Device exchangeDevice(Device to) const override {
    Device before = getDevice();
    current = to.index();
    return before;
  }
  Device getDevice() const override { return {kGpu, current}; }
  void setDevice(Device to) const override { current = to.index(); }
  void uncheckedSetDevice(Device to) const noexcept override { current = to.index(); }
  DeviceIndex deviceCount() const noexcept override { return kGpus; }
  Stream getStream(Device of) const noexcept override { return Stream(Stream::DEFAULT, of); }
  Stream getDefaultStream(Device of) const override { return Stream(Stream::DEFAULT, of); }
  Stream getStreamFromGlobalPool(Device of, bool) const override { return Stream(Stream::DEFAULT, of); }
  Stream exchangeStream(Stream stream) const noexcept override { return stream; }
  void record(void**, const Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void recordDataPtrOnStream(const c10::DataPtr&, const Stream&) const override {}
};

struct Block {
  void* data;
  size_t size;
};

void give_back(void* context) {
  auto* block = static_cast<Block*>(context);
  live_now -= static_cast<int64_t>(block->size);
  std::free(block->data);
  delete block;
}

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    auto* block = new Block{std::aligned_alloc(kLine, (size / kLine + 1) * kLine), size};
    std::memset(block->data, kNothing, size);
    live_now += static_cast<int64_t>(size);
    live_peak = std::max(live_peak.load(), live_now.load());
    return {block->data, block, &give_back, {kGpu, current}};
  }
  void copy_data(void* to, const void* from, size_t size) const override { std::memcpy(to, from, size); }
} memory;

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex getCurrentDevice() const override { return current; }
  DeviceIndex deviceCount() const override { return kGpus; }
  int getNumGPUs() const override { return kGpus; }
  void deviceSynchronize(DeviceIndex) const override {}
  at::Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(c10::kCPU); }
  at::Allocator* getCUDADeviceAllocator() const override { return &memory; }
};

// ---- Tensors: the same memory seen from the CPU, and from the GPU ----

Tensor over(const c10::Storage& storage, c10::DispatchKey key, const Tensor& like) {
  Tensor made = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), c10::DispatchKeySet(key), like.dtype());
  made.unsafeGetTensorImpl()->set_storage_offset(like.storage_offset());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides());
  return made;
}

Tensor host(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  auto* kept = new c10::Storage(tensor.storage());
  c10::DataPtr data(kept->mutable_data(), kept, [](void* context) { delete static_cast<c10::Storage*>(context); }, c10::kCPU);
  auto storage = c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), kept->nbytes(), std::move(data), c10::GetAllocator(c10::kCPU), true);
  Tensor seen = over(c10::Storage(storage), c10::DispatchKey::CPU, tensor);
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) seen.unsafeGetTensorImpl()->set_wrapped_number(true);
  return seen;
}

Tensor empty_strided(IntArrayRef size, IntArrayRef stride, optional<at::ScalarType> dtype, optional<at::Layout>,
                     optional<Device> device, optional<bool> pin) {
  TORCH_CHECK(!pin.value_or(false), "Only dense CPU tensors can be pinned");
  c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(kKey), c10::dtype_or_default(dtype));
}

Tensor empty(IntArrayRef size, optional<at::ScalarType> dtype, optional<at::Layout>, optional<Device> device,
             optional<bool> pin, optional<at::MemoryFormat> format) {
  TORCH_CHECK(!pin.value_or(false), "Only dense CPU tensors can be pinned");
  c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(kKey), c10::dtype_or_default(dtype), format);
}

Tensor moved(const Tensor& tensor, Device to) {
  Tensor made = empty_strided(tensor.sizes(), tensor.strides(), tensor.scalar_type(), {}, to, {});
  host(made).copy_(tensor);
  return made;
}

void become(const Tensor& tensor, const Tensor& other) {
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(other.storage());
  tensor.unsafeGetTensorImpl()->set_storage_offset(other.storage_offset());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(other.sizes(), other.strides());
}

const Tensor& resize_(const Tensor& self, IntArrayRef size, optional<at::MemoryFormat> format) {
  Tensor made = empty(size, self.scalar_type(), {}, self.device(), {}, format);
  auto kept = std::min(self.numel(), made.numel());
  if (kept) host(made).flatten().narrow(0, 0, kept).copy_(host(self).flatten().narrow(0, 0, kept));
  become(self, made);
  return self;
}

Tensor& copy_(Tensor& self, const Tensor& source, bool) {
  host(self).copy_(host(source));
  return self;
}

Tensor& set_(Tensor& self, at::Storage storage, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(storage));
  self.unsafeGetTensorImpl()->set_storage_offset(offset);
  auto dense = at::detail::defaultStrides(size);
  self.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride.data() ? stride : IntArrayRef(dense));
  return self;
}

at::Scalar number(const Tensor& self) { return host(self).item(); }
Tensor as_strided(const Tensor& self, IntArrayRef size, IntArrayRef stride, optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}
Tensor view(const Tensor& self, IntArrayRef size) { return at::native::view(self, size); }
Tensor reshaped(const Tensor& self, IntArrayRef a, IntArrayRef b) { return at::native::_reshape_alias(self, a, b); }
Tensor& set_tensor_(Tensor& self, const Tensor& source) { return at::native::set_tensor_(self, source); }
Tensor unfold(const Tensor& self, int64_t dim, int64_t size, int64_t step) {
  return at::native::unfold(self, dim, size, step);
}

// ---- Every other operation: the CPU's, on the same memory ----

// Operations that accept CPU tensors (indices, copies) beside GPU tensors.
const std::set<std::string> kMayMix = {"aten::index", "aten::index_put_", "aten::_index_put_impl_", "aten::_foreach_copy_"};

void compute(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto& name = schema.operator_name().name;
  auto arguments = torch::jit::last(*stack, schema.arguments().size());
  std::vector<std::pair<Tensor, Tensor>> seen;  // our tensors, and CPU tensors on the same memory
  optional<Device> place;
  bool mixed = false;
  auto lend = [&](const Tensor& tensor) -> Tensor {
    if (!tensor.defined()) return tensor;
    if (!tensor.is_cuda()) {
      mixed = mixed || tensor.dim() > 0;  // scalars may be on any device
      return tensor;
    }
    mixed = mixed || (place && *place != tensor.device());
    place = tensor.device();
    seen.emplace_back(tensor, host(tensor));
    return seen.back().second;
  };
  auto first = stack->size() - arguments.size();
  for (size_t i = first; i < stack->size(); i++) {
    IValue& value = (*stack)[i];
    if (value.isTensor()) {
      value = lend(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> lent;
      for (const Tensor& tensor : value.toTensorVector()) lent.push_back(lend(tensor));
      value = lent;
    } else if (value.isOptionalTensorList()) {
      c10::List<optional<Tensor>> lent;
      for (const optional<Tensor>& each : value.toOptionalTensorVector()) lent.push_back(each ? optional(lend(*each)) : each);
      value = lent;
    } else if (value.isDevice()) {
      if (!place && value.toDevice().has_index()) place = value.toDevice();
      value = Device(c10::kCPU);
    }
  }
  TORCH_CHECK(!mixed || kMayMix.count(name), "Expected all tensors to be on the same device (", name, ")");
  Device target = place.value_or(Device(kGpu, current));
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  for (auto& [ours, cpu] : seen) {  // results that were resized have new memory
    if (cpu.storage().data() != ours.storage().data()) become(ours, moved(cpu, ours.device()));
  }
  auto take = [&](const Tensor& tensor) -> Tensor {
    if (!tensor.defined()) return tensor;
    for (auto& [ours, cpu] : seen) {
      if (cpu.is_same(tensor)) return ours;
      if (cpu.is_alias_of(tensor)) return over(ours.storage(), kKey, tensor);  // a view
    }
    return moved(tensor, target);
  };
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); i++) {
    IValue& value = (*stack)[i];
    if (value.isTensor()) {
      value = take(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> taken;
      for (const Tensor& tensor : value.toTensorVector()) taken.push_back(take(tensor));
      value = taken;
    }
  }
}

// Sums in fp32 of products of bf16: only GPUs have this operation.
Tensor& addmm_to(const Tensor& self, const Tensor& left, const Tensor& right, at::ScalarType to, const at::Scalar& beta,
                 const at::Scalar& alpha, Tensor& out) {
  TORCH_CHECK(left.scalar_type() == right.scalar_type() && to == at::kFloat && out.scalar_type() == to, "addmm: dtypes");
  return at::addmm_out(out, self, left.to(to), right.to(to), beta, alpha);
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }
TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("copy_", copy_);
  m.impl("resize_", resize_);
  m.impl("set_.source_Tensor", set_tensor_);
  m.impl("set_.source_Storage_storage_offset", set_);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshaped);
  m.impl("unfold", unfold);
  m.impl("_local_scalar_dense", number);
  m.impl("addmm.dtype_out", addmm_to);
}
TORCH_LIBRARY(standin, m) { m.def("host(Tensor tensor) -> Tensor"); }
TORCH_LIBRARY_IMPL(standin, CUDA, m) { m.impl("host", host); }

C10_REGISTER_GUARD_IMPL(CUDA, Guard);
REGISTER_ALLOCATOR(kGpu, &memory);

}  // namespace

namespace at {
C10_REGISTER_TYPED_CLASS(CUDAHooksRegistry, "CUDAHooks", ::Hooks);
}

extern "C" {
int standin_device() { return current; }
void standin_use_device(int number) { current = static_cast<DeviceIndex>(number); }
int64_t standin_live() { return live_now; }
int64_t standin_peak() { return live_peak; }
}
